-- Numbers a message, stores it and publishes it to all nodes, in one step: so all nodes see one order.
-- ARGV: 1 an epoch, should numbering begin, 2 the run, 3 and 4 epoch and offset that the node has seen,
-- 5 channel, 6 message, 7 id or nothing, 8 when the node gives up, 9 messages, 10 bytes and 11 milliseconds that
-- the log keeps, 12 milliseconds and 13 number of ids that are kept
local now = milliseconds()
if now > tonumber(ARGV[8]) then
  -- Nobody waits for it any more, and the publisher was told that it is not published.
  return redis.error_reply('LATE the node no longer waits')
end
local epoch, offset = numbers(ARGV[1], ARGV[2], ARGV[3], ARGV[4])
local message, id, age, window = ARGV[6], ARGV[7], tonumber(ARGV[11]), tonumber(ARGV[12])
local kept = redis.call('HMGET', KEYS[1], 'bytes', 'oldest', 'ids', 'ids_since')
local bytes, oldest, ids = tonumber(kept[1]), tonumber(kept[2]), tonumber(kept[3])

if id ~= '' then
  local first = redis.call('HGET', KEYS[3 + ids], id) or redis.call('HGET', KEYS[4 - ids], id)
  if first then
    return {epoch, first, 1}
  end
end
offset = offset + 1
-- First of all, so that a message that cannot be stored leaves no id that says it was.
redis.call('XADD', KEYS[2], whole(offset) .. '-0', 't', whole(now), 'm', message)
if id ~= '' then
  -- Either half of the ids is as large as the bound, so that the bound is remembered at least.
  if now - tonumber(kept[4]) > window or redis.call('HLEN', KEYS[3 + ids]) >= tonumber(ARGV[13]) then
    ids = 1 - ids
    redis.call('DEL', KEYS[3 + ids])
    redis.call('HSET', KEYS[1], 'ids', ids, 'ids_since', whole(now))
  end
  redis.call('HSET', KEYS[3 + ids], id, whole(offset))
  redis.call('PEXPIRE', KEYS[3 + ids], whole(2 * window))
end

local length = redis.call('XLEN', KEYS[2])
bytes = bytes + #message
if length == 1 then
  -- What was there before has expired.
  bytes, oldest = #message, now
end

-- Beyond a bound a part is dropped, so that not every publish has to look for what to drop.
local function target(value, most)
  return value > most and most - math.floor(most / 16) or most
end
local messages_max, bytes_max = tonumber(ARGV[9]), tonumber(ARGV[10])
if length > messages_max or bytes > bytes_max or now - oldest > age then
  messages_max, bytes_max = target(length, messages_max), target(bytes, bytes_max)
  local is_enough = false
  while not is_enough do
    local next_offset
    for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 20)) do
      local stored = tonumber(entry[2][2])
      is_enough = length == 1 or (length <= messages_max and bytes <= bytes_max and now - stored <= age)
      if is_enough then
        oldest = stored
        break
      end
      length, bytes = length - 1, bytes - #entry[2][4]
      next_offset = tonumber(string.match(entry[1], '^%d+')) + 1
    end
    if next_offset then
      redis.call('XTRIM', KEYS[2], 'MINID', whole(next_offset))
    end
  end
end

redis.call('HSET', KEYS[1], 'offset', whole(offset), 'bytes', whole(bytes), 'oldest', whole(oldest))
redis.call('PEXPIRE', KEYS[2], ARGV[11])
redis.call('PEXPIRE', KEYS[1], whole(2 * age))
redis.call('PUBLISH', ARGV[5], epoch .. ' ' .. whole(offset) .. ' ' .. whole(now) .. '\n' .. message)
return {epoch, whole(offset), 0}
