-- A node says that it lives, and which rooms have other members there. Gives whether it was not known, so that
-- what it said before is not either, and the nodes that live.
-- KEYS: 1 the nodes, by when they are taken for dead, 2 the rooms of this one
-- ARGV: 1 the node, 2 milliseconds until it is taken for dead, 3 channel, 4 what the others are told, or nothing,
-- then a room and its members by turns, no members for a room that is empty
local now = milliseconds()
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', whole(now))
local added = redis.call('ZADD', KEYS[1], whole(now + ARGV[2]), ARGV[1])
for at = 5, #ARGV, 2 do
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
