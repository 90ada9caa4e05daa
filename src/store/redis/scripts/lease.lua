-- Takes or renews the lease of the node that sends webhooks. Returns 1 if this node has it now, and the serial after
-- which its events are numbered, which is larger than those of all nodes that had the lease before.
-- KEYS: 1 the lease, 2 the first serial of the last node that took it. ARGV: 1 the node, 2 milliseconds until the lease ends,
-- 3 more serials than one node ever uses
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return {0, '0'}
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local serial = tonumber(redis.call('GET', KEYS[2]) or '0')
if not holder then
  local time = redis.call('TIME')
  serial = math.max(time[1] * 1000000 + time[2], serial + ARGV[3])
  redis.call('SET', KEYS[2], integer(serial))
end
return {1, integer(serial)}
