-- Precedes every script. Scripts about rooms have five KEYS for each: its numbering, its log, both halves of the ids of
-- its recent publishes: the current half and the previous half, in turn; and the offsets of its messages with a ttl, by
-- the time at which it ends.

-- The keys of the room at hand begin after this index.
local room = 0

-- Formats an integer. Lua would format 1700000000000 as 1.7e+12.
local function integer(number)
  return string.format('%.0f', number)
end

-- The time of Redis in Unix milliseconds.
local function milliseconds()
  local clock = redis.call('TIME')
  return clock[1] * 1000 + math.floor(clock[2] / 1000)
end

-- Publishes a message to the nodes, on the channel that every server of a cluster relays, on the sharded channel that
-- only the server of its slot relays, or on both.
local function relay(channels, channel, sharded_channel, message)
  if channels ~= 'unsharded' then
    local published = redis.pcall('SPUBLISH', sharded_channel, message)
    if type(published) == 'number' and channels == 'sharded' then
      return
    end
  end
  redis.call('PUBLISH', channel, message)
end

-- Returns the time at which a message of the log was stored, by the steady clock. Earlier versions stored no such time.
local function stored_at(entry)
  return tonumber(entry[2][6] or entry[2][2])
end

-- Returns whether the last message of the log is too old. Then all messages are, and the log counts as empty. The key
-- itself expires later, because it does so by a clock that may jump.
local function is_log_expired(steady_now, age_max)
  local newest = redis.call('XREVRANGE', KEYS[room + 2], '+', '-', 'COUNT', 1)[1]
  return newest and steady_now - stored_at(newest) > age_max
end

-- Returns the time at which the ttl of a message of the log ends, by the steady clock; nil without a ttl.
local function expiry_of(entry)
  return tonumber(entry[2][8])
end

-- Removes messages whose ttl has ended, at most a number of them. Returns their bytes, the highest of their offsets,
-- and the time at which the next ttl ends, if there is one.
local function remove_expired(steady_now, messages_max)
  local bytes, gone = 0, 0
  local due = redis.call('ZRANGEBYSCORE', KEYS[room + 5], '-inf', integer(steady_now), 'LIMIT', 0, messages_max)
  for _, offset in ipairs(due) do
    local id = offset .. '-0'
    local entry = redis.call('XRANGE', KEYS[room + 2], id, id)[1]
    if entry then
      bytes, gone = bytes + #entry[2][4], math.max(gone, tonumber(offset))
      redis.call('XDEL', KEYS[room + 2], id)
    end
    redis.call('ZREM', KEYS[room + 5], offset)
  end
  local next_due = redis.call('ZRANGE', KEYS[room + 5], 0, 0, 'WITHSCORES')[2]
  return bytes, gone, tonumber(next_due)
end

-- Records in a room's numbering that messages were removed out of order: their bytes, the highest of their offsets, and
-- when the next ttl ends, or nil.
local function record_removed(freed, gone, expires)
  local key = KEYS[room + 1]
  local known = redis.call('HMGET', key, 'bytes', 'gone')
  redis.call('HSET', key, 'bytes', integer(tonumber(known[1]) - freed), 'gone',
    integer(math.max(gone, tonumber(known[2] or 0))))
  if expires then
    redis.call('HSET', key, 'expires', integer(expires))
  else
    redis.call('HDEL', key, 'expires')
  end
end

-- Returns a room's epoch, its last offset, and more fields of its numbering: bytes, oldest, ids, ids_since, kept_until,
-- expires (when the next ttl ends, or nil).
-- Numbering starts in the epoch new_epoch if the room has none yet, and restarts in it
-- - if Redis has restarted and may have lost data since (its generation is higher than the room's), or
-- - if Redis has fewer offsets than the node has seen or acknowledged in the same epoch.
-- So no offset is used twice within an epoch. Stored messages stay, because they were acknowledged.
local function numbering(new_epoch, generation, seen_epoch, seen_offset)
  local key = KEYS[room + 1]
  local known = redis.call('HMGET', key, 'epoch', 'offset', 'run', 'bytes', 'oldest', 'ids', 'ids_since', 'kept_until',
    'expires')
  if known[1] then
    local offset = tonumber(known[2])
    local is_older = tonumber(known[3]) < tonumber(generation)
    local has_less = known[1] == seen_epoch and offset < tonumber(seen_offset)
    if is_older or has_less then
      redis.call('HSET', key, 'epoch', new_epoch, 'run', generation)
      known[1] = new_epoch
    end
    return known[1], offset, tonumber(known[4]), tonumber(known[5]), tonumber(known[6]), tonumber(known[7]),
      tonumber(known[8] or 0), tonumber(known[9])
  end
  -- The command that a full Redis rejects comes first, because Redis does not stop a script that has written once.
  redis.call('HSET', key, 'epoch', new_epoch, 'offset', 0, 'run', generation, 'bytes', 0, 'oldest', 0, 'ids', 0,
    'ids_since', 0)
  redis.call('DEL', KEYS[room + 2], KEYS[room + 3], KEYS[room + 4], KEYS[room + 5])
  return new_epoch, 0, 0, 0, 0, 0, 0
end

