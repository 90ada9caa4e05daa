-- Numbers a message, stores it and publishes it to all nodes, in one step, so that all nodes see the same order.
-- Returns the epoch, the offset, and 1 if the message is a duplicate.
-- ARGV: 1 the epoch if numbering restarts, 2 the generation of Redis, 3 and 4 the epoch and offset that the node has
-- seen, 5 the channel, 6 the message, 7 its id, or empty, 8 the time at which the node gives up, 9 to 11 the maximum
-- number of messages, their bytes and their age in milliseconds, 12 and 13 the milliseconds and the number of ids to
-- remember, 14 the time by the steady clock, 15 the milliseconds by which the clock of Redis may jump
local now = milliseconds()
if now > tonumber(ARGV[8]) then
  -- The node no longer waits, and the publisher knows that the message was not published.
  return redis.error_reply('LATE the node no longer waits')
end
local epoch, offset = numbering(ARGV[1], ARGV[2], ARGV[3], ARGV[4])
local message, id, age_max, window = ARGV[6], ARGV[7], tonumber(ARGV[11]), tonumber(ARGV[12])
local steady_now, jump_max = tonumber(ARGV[14]), tonumber(ARGV[15])
local known = redis.call('HMGET', KEYS[1], 'bytes', 'oldest', 'ids', 'ids_since')
local bytes, oldest, half = tonumber(known[1]), tonumber(known[2]), tonumber(known[3])

if id ~= '' then
  local first = redis.call('HGET', KEYS[3 + half], id) or redis.call('HGET', KEYS[4 - half], id)
  if first then
    return {epoch, first, 1}
  end
end
offset = offset + 1
if steady_now - oldest > age_max and is_log_expired(steady_now, age_max) then
  redis.call('DEL', KEYS[2])
end
-- The message is stored before its id, so that a message that Redis rejects leaves no id.
redis.call('XADD', KEYS[2], integer(offset) .. '-0', 't', integer(now), 'm', message, 's',
  integer(steady_now))
if id ~= '' then
  -- Each half holds up to the number of ids to remember, so that both together hold at least that number.
  if steady_now - tonumber(known[4]) > window or redis.call('HLEN', KEYS[3 + half]) >= tonumber(ARGV[13]) then
    half = 1 - half
    redis.call('DEL', KEYS[3 + half])
    redis.call('HSET', KEYS[1], 'ids', half, 'ids_since', integer(steady_now))
  end
  redis.call('HSET', KEYS[3 + half], id, integer(offset))
  redis.call('PEXPIRE', KEYS[3 + half], integer(2 * window + jump_max))
end

local length = redis.call('XLEN', KEYS[2])
bytes = bytes + #message
if length == 1 then
  -- The log was empty, so the known amounts are out of date.
  bytes, oldest = #message, steady_now
end

-- Beyond a limit the log is pruned to 15/16 of it, so that not every publish has to prune.
local function target(value, maximum)
  return value > maximum and maximum - math.floor(maximum / 16) or maximum
end
local messages_max, bytes_max = tonumber(ARGV[9]), tonumber(ARGV[10])
if length > messages_max or bytes > bytes_max or steady_now - oldest > age_max then
  messages_max, bytes_max = target(length, messages_max), target(bytes, bytes_max)
  local is_enough = false
  while not is_enough do
    local first_kept
    for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 20)) do
      local time = stored_at(entry)
      is_enough = length == 1 or (length <= messages_max and bytes <= bytes_max and steady_now - time <= age_max)
      if is_enough then
        oldest = time
        break
      end
      length, bytes = length - 1, bytes - #entry[2][4]
      first_kept = tonumber(string.match(entry[1], '^%d+')) + 1
    end
    if first_kept then
      redis.call('XTRIM', KEYS[2], 'MINID', integer(first_kept))
    end
  end
end

redis.call('HSET', KEYS[1], 'offset', integer(offset), 'bytes', integer(bytes), 'oldest', integer(oldest))
redis.call('PEXPIRE', KEYS[2], integer(age_max + jump_max))
redis.call('PEXPIRE', KEYS[1], integer(2 * age_max + jump_max))
redis.call('PUBLISH', ARGV[5], epoch .. ' ' .. integer(offset) .. ' ' .. integer(now) .. '\n' .. message)
return {epoch, integer(offset), 0}
