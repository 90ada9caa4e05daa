-- Returns the time of Redis, and the difference of the steady clock to it, both in milliseconds.
-- KEYS: 1 the steady clock. ARGV: 1 the difference that the node knows, or empty, 2 the steady time by the node's own
-- clock, 3 the least difference of the two that counts as a jump of the clock of Redis
local now = milliseconds()
local known = redis.call('HMGET', KEYS[1], 'shift')[1]
local shift = known and tonumber(known) or 0
if ARGV[1] ~= '' then
  local own = tonumber(ARGV[2]) - now
  -- If another node has corrected the difference already, it is not the one that this node knows.
  local is_jump = tonumber(ARGV[1]) == shift and math.abs(own - shift) > tonumber(ARGV[3])
  if not known or is_jump then
    shift = own
    -- A full Redis or a replica rejects this. Then each node corrects the difference for itself.
    redis.pcall('HSET', KEYS[1], 'shift', integer(shift))
  end
end
return {integer(now), integer(shift)}
