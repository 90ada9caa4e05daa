-- Records a node's heartbeat and its changed rooms. Returns 1 if the node was unknown, in which case its earlier
-- reports are lost, the live nodes, and the number of those that do not receive messages on sharded channels.
-- KEYS: 1 the nodes by the time at which they expire, 2 the rooms of this node, 3 those of the nodes that receive
-- messages on sharded channels
-- ARGV: 1 the node, 2 milliseconds until it expires, 3 the channel of reports, 4 the report, or empty, 5 the time by
-- the steady clock, 6 the sharded channel of reports, empty if this node receives none, 7 the channels that relay
-- reports, then pairs of a room and its members, which are empty if the room has none
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
for at = 8, #ARGV, 2 do
  if ARGV[at + 1] == '' then
    redis.call('HDEL', KEYS[2], ARGV[at])
  else
    redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1])
  end
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if ARGV[4] ~= '' then
  relay(ARGV[7], ARGV[3], ARGV[6], ARGV[4])
end

local live = redis.call('ZRANGE', KEYS[1], 0, -1)
if ARGV[6] == '' then
  return {added, live, #live}
end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', integer(now))
redis.call('ZADD', KEYS[3], integer(now + ARGV[2]), ARGV[1])
redis.call('PEXPIRE', KEYS[3], ARGV[2])
local is_sharded, unsharded = {}, 0
for _, node in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  is_sharded[node] = true
end
for _, node in ipairs(live) do
  unsharded = unsharded + (is_sharded[node] and 0 or 1)
end
return {added, live, unsharded}
