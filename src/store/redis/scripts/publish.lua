-- Numbers messages, stores them and publishes them to all nodes, in one step, so that all nodes see the same order.
-- Takes the messages of one room or of several. Returns for each message an error, or its epoch, its offset, and 1 if
-- it is a duplicate, as a text. A message that Redis rejects does not affect the others.
-- ARGV: 1 the epoch if numbering restarts, 2 the generation of Redis, 3 the time at which the node gives up, 4 the
-- milliseconds to keep the numbering of a room, 5 and 6 the milliseconds and the number of ids to remember, 7 the time by
-- the steady clock, 8 the milliseconds by which the clock of Redis may jump, 9 the channels that relay messages, then for
-- each room its channel, the epoch and offset that the node has seen or acknowledged, the maximum number of messages in
-- its log, their bytes and their age in milliseconds, and its number of messages, each with its id, or empty, its ttl in
-- milliseconds, or empty, and the members that do not receive it, or empty
local now = milliseconds()
if now > tonumber(ARGV[3]) then
  -- The node no longer waits, and the publishers know that their messages were not published.
  return redis.error_reply('LATE the node no longer waits')
end
local numbering_kept = tonumber(ARGV[4])
local window, ids_max = tonumber(ARGV[5]), tonumber(ARGV[6])
local steady_now, jump_max = tonumber(ARGV[7]), tonumber(ARGV[8])
local now_text, steady_text = integer(now), ARGV[7]
-- The ids of a half are counted at every message whose offset is a multiple of this.
local IDS_COUNTED_EVERY = 64
-- Messages whose ttl has ended that a publish to their room removes at most.
local EXPIRED_MAX = 100

-- The numbering of the room at hand, and the length of its log once it is known.
local epoch, offset, bytes, oldest, half, ids_since, kept_until, expires, length
-- The limits of the log of the room at hand.
local messages_max, bytes_max, age_max

-- Keys expire up to this much later than they have to, so that not every publish has to move their expiry.
local function kept_slack()
  return math.min(math.floor(age_max / 16), 60000)
end

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
      if expiry_of(entry) then
        redis.call('ZREM', KEYS[room + 5], (string.match(entry[1], '^%d+')))
      end
      first_kept = tonumber(string.match(entry[1], '^%d+')) + 1
    end
    if first_kept then
      redis.call('XTRIM', KEYS[room + 2], 'MINID', integer(first_kept))
    end
  end
end

-- Removes messages whose ttl has ended, if there are any. A failure changes nothing for publishers: readers leave these
-- messages out in any case.
local function expire()
  if not expires or steady_now < expires then
    return
  end
  pcall(function()
    local freed, gone, next_expires = remove_expired(steady_now, EXPIRED_MAX)
    record_removed(freed, gone, next_expires)
    bytes, expires = bytes - freed, next_expires
  end)
end

-- Remembers when the ttl of the last message ends.
local function expire_at(time)
  redis.call('ZADD', KEYS[room + 5], integer(time), integer(offset))
  redis.call('PEXPIRE', KEYS[room + 5], integer(age_max + kept_slack() + jump_max))
  if not expires or time < expires then
    expires = time
    redis.call('HSET', KEYS[room + 1], 'expires', integer(expires))
  end
end

-- Stores and publishes a message. Returns its epoch, its offset, and 1 if it is a duplicate.
local function publish(channel, message, id, ttl, except)
  if id ~= '' then
    local first = redis.call('HGET', KEYS[room + 3 + half], id) or redis.call('HGET', KEYS[room + 4 - half], id)
    if first then
      return epoch .. ' ' .. first .. ' 1'
    end
  end
  if steady_now - oldest > age_max and is_log_expired(steady_now, age_max) then
    redis.call('DEL', KEYS[room + 2], KEYS[room + 5])
    length = nil
  end
  local at = integer(offset + 1)
  -- The message is stored before its id, so that a message that Redis rejects leaves no id.
  local time = ttl ~= '' and steady_now + tonumber(ttl)
  if time then
    redis.call('XADD', KEYS[room + 2], at .. '-0', 't', now_text, 'm', message, 's', steady_text, 'e', integer(time))
  else
    redis.call('XADD', KEYS[room + 2], at .. '-0', 't', now_text, 'm', message, 's', steady_text)
  end
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
  if time then
    expire_at(time)
  end
  prune()
  local head = epoch .. ' ' .. at .. ' ' .. now_text .. (except == '' and '' or ' ' .. except)
  relay(ARGV[9], channel, channel, head .. '\n' .. message)
  return epoch .. ' ' .. at .. ' 0'
end

-- Writes the numbering of the room at hand, and now and then the time at which its keys expire.
local function write_numbering()
  local key = KEYS[room + 1]
  local needed_until = steady_now + age_max
  local slack = kept_slack()
  if needed_until <= kept_until and kept_until <= needed_until + slack then
    redis.call('HSET', key, 'offset', integer(offset), 'bytes', integer(bytes), 'oldest', integer(oldest))
    return
  end
  redis.call('HSET', key, 'offset', integer(offset), 'bytes', integer(bytes), 'oldest', integer(oldest), 'kept_until',
    integer(needed_until + slack))
  redis.call('PEXPIRE', KEYS[room + 2], integer(age_max + slack + jump_max))
  redis.call('PEXPIRE', key, integer(numbering_kept + slack))
end

-- Turns the results of pcall into a reply. An error is a table, but a text in Redis 6.
local function reply_of(is_success, result)
  return (is_success or type(result) == 'table') and result or {err = result}
end

local results = {}
local argument = 10
while argument < #ARGV do
  local channel, seen_epoch, seen_offset = ARGV[argument], ARGV[argument + 1], ARGV[argument + 2]
  messages_max, bytes_max = tonumber(ARGV[argument + 3]), tonumber(ARGV[argument + 4])
  age_max = tonumber(ARGV[argument + 5])
  local last = argument + 6 + 4 * ARGV[argument + 6]
  local is_numbered, why = pcall(function()
    epoch, offset, bytes, oldest, half, ids_since, kept_until, expires =
      numbering(ARGV[1], ARGV[2], seen_epoch, seen_offset)
    expire()
  end)
  local before = offset
  length = nil
  for at = argument + 7, last, 4 do
    results[#results + 1] = is_numbered
      and reply_of(pcall(publish, channel, ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])) or reply_of(false, why)
  end
  if is_numbered and offset > before then
    write_numbering()
  end
  argument, room = last + 1, room + 5
end
return results
