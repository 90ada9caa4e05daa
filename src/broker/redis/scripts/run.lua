-- Counts the starts of Redis that may have lost what it had. KEYS: 1 what is known of them.
-- ARGV: 1 the name of this start, 2 whether what it had was kept in a file command by command
local known = redis.call('HMGET', KEYS[1], 'start', 'run')
local run = tonumber(known[2] or 0)
if known[1] ~= ARGV[1] then
  if known[1] and ARGV[2] == '0' then
    run = run + 1
  end
  redis.call('HSET', KEYS[1], 'start', ARGV[1], 'run', run)
end
return run
