-- Precedes every script. Scripts about a room have its KEYS: 1 its numbering, 2 its log, 3 and 4 the ids of its recent
-- publishes: the current half and the previous half, in turn.

-- Formats an integer. Lua would format 1700000000000 as 1.7e+12.
local function integer(number)
  return string.format('%.0f', number)
end

-- The time of Redis in Unix milliseconds.
local function milliseconds()
  local clock = redis.call('TIME')
  return clock[1] * 1000 + math.floor(clock[2] / 1000)
end

-- Returns the time at which a message of the log was stored, by the steady clock. Earlier versions stored no such time.
local function stored_at(entry)
  return tonumber(entry[2][6] or entry[2][2])
end

-- Returns whether the last message of the log is too old. Then all messages are, and the log counts as empty. The key
-- itself expires later, because it does so by a clock that may jump.
local function is_log_expired(steady_now, age_max)
  local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
  return newest and steady_now - stored_at(newest) > age_max
end

-- Returns a room's epoch and last offset. Numbering starts in the epoch new_epoch if the room has none yet, and
-- restarts in it
-- - if Redis has restarted and may have lost data since (its generation is higher than the room's), or
-- - if Redis has fewer offsets than the node has seen in the same epoch.
-- So no offset is used twice within an epoch. Stored messages stay, because they were acknowledged.
local function numbering(new_epoch, generation, seen_epoch, seen_offset)
  local known = redis.call('HMGET', KEYS[1], 'epoch', 'offset', 'run')
  if known[1] then
    local offset = tonumber(known[2])
    local is_older = tonumber(known[3]) < tonumber(generation)
    local has_less = known[1] == seen_epoch and offset < tonumber(seen_offset)
    if not is_older and not has_less then
      return known[1], offset
    end
    redis.call('HSET', KEYS[1], 'epoch', new_epoch, 'run', generation)
    return new_epoch, offset
  end
  -- The command that a full Redis rejects comes first, because Redis does not stop a script that has written once.
  redis.call('HSET', KEYS[1], 'epoch', new_epoch, 'offset', 0, 'run', generation, 'bytes', 0, 'oldest', 0, 'ids', 0,
    'ids_since', 0)
  redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
  return new_epoch, 0
end

