-- Records a node's heartbeat and its changed rooms. Returns 1 if the node was unknown, in which case its earlier
-- reports are lost, and the live nodes.
-- KEYS: 1 the nodes by the time at which they expire, 2 the rooms of this node
-- ARGV: 1 the node, 2 milliseconds until it expires, 3 the channel of reports, 4 the report, or empty, 5 the time by
-- the steady clock, then pairs of a room and its members, which are empty if the room has none
local now = tonumber(ARGV[5])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', integer(now))
-- A node that started when the clock of Redis was changed may have recorded a time far in the future. Without this,
-- the node would never expire after its death.
local nodes = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for at = 1, #nodes, 2 do
  if tonumber(nodes[at + 1]) > now + 2 * ARGV[2] then
    redis.call('ZADD', KEYS[1], integer(now + ARGV[2]), nodes[at])
  end
end
local added = redis.call('ZADD', KEYS[1], integer(now + ARGV[2]), ARGV[1])
for at = 6, #ARGV, 2 do
  if ARGV[at + 1] == '' then
    redis.call('HDEL', KEYS[2], ARGV[at])
  else
    redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1])
  end
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if ARGV[4] ~= '' then
  redis.call('PUBLISH', ARGV[3], ARGV[4])
end
return {added, redis.call('ZRANGE', KEYS[1], 0, -1)}
