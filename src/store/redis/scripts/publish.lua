-- Numbers messages, stores them and publishes them to all nodes, in one step, so that all nodes see the same order.
-- Takes the messages of one room or of several. Returns for each message an error, or its epoch, its offset, and 1 if
-- it is a duplicate, as a text. A message that Redis rejects does not affect the others.
-- ARGV: 1 the epoch if numbering restarts, 2 the generation of Redis, 3 the time at which the node gives up, 4 to 6 the
-- maximum number of messages, their bytes and their age in milliseconds, 7 and 8 the milliseconds and the number of
-- ids to remember, 9 the time by the steady clock, 10 the milliseconds by which the clock of Redis may jump,
-- 11 the channels that relay messages, then for each room its channel, the epoch and offset that the node has seen, and its number of messages, each with
-- its id, or empty
local now = milliseconds()
if now > tonumber(ARGV[3]) then
  -- The node no longer waits, and the publishers know that their messages were not published.
  return redis.error_reply('LATE the node no longer waits')
end
local messages_max, bytes_max, age_max = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local window, ids_max = tonumber(ARGV[7]), tonumber(ARGV[8])
local steady_now, jump_max = tonumber(ARGV[9]), tonumber(ARGV[10])
local now_text, steady_text = integer(now), ARGV[9]
-- Keys expire up to this much later than they have to, so that not every publish has to set the time.
local KEPT_SLACK = math.min(math.floor(age_max / 16), 60000)
-- The ids of a half are counted at every message whose offset is a multiple of this.
local IDS_COUNTED_EVERY = 64

-- The numbering of the room at hand, and the length of its log once it is known.
local epoch, offset, bytes, oldest, half, ids_since, kept_until, length

-- Remembers the id of the last message.
local function remember(id)
  local current = KEYS[room + 3 + half]
  local is_full = offset % IDS_COUNTED_EVERY == 0 and redis.call('HLEN', current) >= ids_max
  if is_full or steady_now - ids_since > window then
    -- Each half holds at least the number of ids to remember, so that both together do at any time.
    half, ids_since = 1 - half, steady_now
    current = KEYS[room + 3 + half]
    redis.call('DEL', current)
    redis.call('HSET', current, id, integer(offset))
    redis.call('HSET', KEYS[room + 1], 'ids', half, 'ids_since', steady_text)
    -- Ids are added for one window, and each is remembered for another.
    redis.call('PEXPIRE', current, integer(2 * window + jump_max))
  else
    redis.call('HSET', current, id, integer(offset))
  end
end

-- Beyond a limit the log is pruned to 15/16 of it, so that not every publish has to prune.
local function target(value, maximum)
  return value > maximum and maximum - math.floor(maximum / 16) or maximum
end

-- Deletes the oldest messages of the log if it exceeds a limit.
local function prune()
  if length <= messages_max and bytes <= bytes_max and steady_now - oldest <= age_max then
    return
  end
  local messages_kept, bytes_kept = target(length, messages_max), target(bytes, bytes_max)
  local is_enough = false
  while not is_enough do
    local first_kept
    for _, entry in ipairs(redis.call('XRANGE', KEYS[room + 2], '-', '+', 'COUNT', 20)) do
      local time = stored_at(entry)
      is_enough = length == 1 or (length <= messages_kept and bytes <= bytes_kept and steady_now - time <= age_max)
      if is_enough then
        oldest = time
        break
      end
      length, bytes = length - 1, bytes - #entry[2][4]
      first_kept = tonumber(string.match(entry[1], '^%d+')) + 1
    end
    if first_kept then
      redis.call('XTRIM', KEYS[room + 2], 'MINID', integer(first_kept))
    end
  end
end

-- Stores and publishes a message. Returns its epoch, its offset, and 1 if it is a duplicate.
local function publish(channel, message, id)
  if id ~= '' then
    local first = redis.call('HGET', KEYS[room + 3 + half], id) or redis.call('HGET', KEYS[room + 4 - half], id)
    if first then
      return epoch .. ' ' .. first .. ' 1'
    end
  end
  if steady_now - oldest > age_max and is_log_expired(steady_now, age_max) then
    redis.call('DEL', KEYS[room + 2])
    length = nil
  end
  local at = integer(offset + 1)
  -- The message is stored before its id, so that a message that Redis rejects leaves no id.
  redis.call('XADD', KEYS[room + 2], at .. '-0', 't', now_text, 'm', message, 's', steady_text)
  offset = offset + 1
  length = length and length + 1 or redis.call('XLEN', KEYS[room + 2])
  bytes = bytes + #message
  if length == 1 then
    -- The log was empty, so the known values are out of date.
    bytes, oldest, kept_until = #message, steady_now, 0
  end
  if id ~= '' then
    remember(id)
  end
  prune()
  relay(ARGV[11], channel, channel, epoch .. ' ' .. at .. ' ' .. now_text .. '\n' .. message)
  return epoch .. ' ' .. at .. ' 0'
end

-- Writes the numbering of the room at hand, and now and then the time at which its keys expire.
local function write_numbering()
  local key = KEYS[room + 1]
  local needed_until = steady_now + age_max
  if needed_until <= kept_until and kept_until <= needed_until + KEPT_SLACK then
    redis.call('HSET', key, 'offset', integer(offset), 'bytes', integer(bytes), 'oldest', integer(oldest))
    return
  end
  redis.call('HSET', key, 'offset', integer(offset), 'bytes', integer(bytes), 'oldest', integer(oldest), 'kept_until',
    integer(needed_until + KEPT_SLACK))
  redis.call('PEXPIRE', KEYS[room + 2], integer(age_max + KEPT_SLACK + jump_max))
  redis.call('PEXPIRE', key, integer(2 * age_max + KEPT_SLACK + jump_max))
end

-- Turns the results of pcall into a reply. An error is a table, but a text in Redis 6.
local function reply_of(is_success, result)
  return (is_success or type(result) == 'table') and result or {err = result}
end

local results = {}
local argument = 12
while argument < #ARGV do
  local channel, seen_epoch, seen_offset = ARGV[argument], ARGV[argument + 1], ARGV[argument + 2]
  local last = argument + 3 + 2 * ARGV[argument + 3]
  local is_numbered, why = pcall(function()
    epoch, offset, bytes, oldest, half, ids_since, kept_until = numbering(ARGV[1], ARGV[2], seen_epoch, seen_offset)
  end)
  local before = offset
  length = nil
  for at = argument + 4, last, 2 do
    results[#results + 1] = is_numbered and reply_of(pcall(publish, channel, ARGV[at], ARGV[at + 1]))
      or reply_of(false, why)
  end
  if is_numbered and offset > before then
    write_numbering()
  end
  argument, room = last + 1, room + 4
end
return results
