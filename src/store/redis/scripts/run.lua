-- Counts the starts of Redis that may have lost what it had. KEYS: 1 what is known of them.
-- ARGV: 1 the name of this start, 2 whether what it had was kept in a file command by command, 3 the count and
-- 4 the start that the node knows, should they have been lost
local known = redis.call('HMGET', KEYS[1], 'start', 'run')
local run = math.max(tonumber(known[2] or 0), tonumber(ARGV[3]))
if (known[1] or ARGV[4]) ~= ARGV[1] and ARGV[2] == '0' then
  -- Above all counts there were, also those that it has no key of any more.
  run = math.max(run + 1, milliseconds())
end
if known[1] ~= ARGV[1] then
  redis.call('HSET', KEYS[1], 'start', ARGV[1], 'run', whole(run))
end
return run
