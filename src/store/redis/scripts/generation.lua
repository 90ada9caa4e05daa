-- Returns the generation of a Redis server: a number that grows whenever the server restarts and may have lost data.
-- KEYS: 1 the server's generation. ARGV: 1 the run id of the server, 2 whether it restores all its data after a
-- restart (1 or 0), 3 and 4 the generation and run id that the node knows, in case the key was lost
local known = redis.call('HMGET', KEYS[1], 'start', 'run')
local generation = math.max(tonumber(known[2] or 0), tonumber(ARGV[3]))
if (known[1] or ARGV[4]) ~= ARGV[1] and ARGV[2] == '0' then
  -- The time is higher than every earlier generation, even if their key was lost.
  generation = math.max(generation + 1, milliseconds())
end
if known[1] ~= ARGV[1] then
  redis.call('HSET', KEYS[1], 'start', ARGV[1], 'run', integer(generation))
end
return generation
