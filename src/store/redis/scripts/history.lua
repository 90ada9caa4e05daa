-- Returns messages of a room after an offset, as one snapshot: epoch, first and last offset, the offset that the page
-- reaches, 1 if the log has every message after the offset up to another one, then the messages. Writes nothing but the removal of
-- messages whose ttl has ended.
-- ARGV: 1 the offset, or empty for the newest messages, 2 the maximum number of messages, 3 the maximum number of
-- bytes; one message is returned even if it is larger, 4 the time by the steady clock, 5 the maximum age of messages, 6
-- the other offset, or empty
local known = redis.call('HMGET', KEYS[1], 'epoch', 'offset', 'gone', 'expires')
if not known[1] then
  return {}
end
local last, messages_max, bytes_max = tonumber(known[2]), tonumber(ARGV[2]), tonumber(ARGV[3])
local steady_now, gone, expires = tonumber(ARGV[4]), tonumber(known[3] or 0), tonumber(known[4])
-- Entries that are read at once, those that are counted at most, and messages whose ttl has ended that are removed at most.
local READ_AT_ONCE, COUNTED_MAX, EXPIRED_MAX = 20, 200, 100

if is_log_expired(steady_now, tonumber(ARGV[5])) then
  return {known[1], integer(last + 1), integer(last), integer(last), 0}
end

-- Messages whose ttl has ended may remain, because there are too many, or because a replica rejects writes.
local may_be_expired = expires and expires <= steady_now
if may_be_expired then
  pcall(function()
    local freed, removed, next_expires = remove_expired(steady_now, EXPIRED_MAX)
    record_removed(freed, removed, next_expires)
    gone = math.max(gone, removed)
    may_be_expired = next_expires and next_expires <= steady_now
  end)
  if may_be_expired then
    for _, offset in ipairs(redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', integer(steady_now))) do
      gone = math.max(gone, tonumber(offset))
    end
  end
end

local function offset_of(entry)
  return tonumber((string.match(entry[1], '^%d+')))
end

local function is_live(entry)
  local expiry = may_be_expired and expiry_of(entry)
  return not expiry or expiry > steady_now
end

local found, bytes = {}, 0

-- Adds a message to the page. Returns false if it does not fit.
local function add(entry)
  bytes = bytes + #entry[2][4]
  if bytes > bytes_max and #found > 0 then
    return false
  end
  found[#found + 1] = entry
  return #found < messages_max
end

-- Calls take with the messages from an offset on, or with XREVRANGE back to the first, until it returns false. Returns
-- whether it took all. Reads up to at_once entries by one command.
local function read(command, from, at_once, take)
  local to, step = '+', 1
  if command == 'XREVRANGE' then
    to, step = '-', -1
  end
  local entries, count
  repeat
    count = math.min(at_once, messages_max - #found)
    entries = redis.call(command, KEYS[2], integer(from), to, 'COUNT', count)
    for _, entry in ipairs(entries) do
      if is_live(entry) and not take(entry) then
        return false
      end
      from = offset_of(entry) + step
    end
  until #entries < count
  return true
end

local first = last + 1
read('XRANGE', 0, may_be_expired and READ_AT_ONCE or 1, function(entry)
  first = offset_of(entry)
  return false
end)

local reached = last
if ARGV[1] == '' then
  read('XREVRANGE', last, READ_AT_ONCE, add)
elseif tonumber(ARGV[1]) < last and not read('XRANGE', tonumber(ARGV[1]) + 1, READ_AT_ONCE, add) then
  reached = offset_of(found[#found])
end

-- Returns whether the log has every message after since up to goal. If messages were removed after goal, and not before,
-- the messages are counted; if they are too many for that, some count as missing.
local function has_all(since, goal)
  if since < first - 1 then
    return false
  elseif since >= gone then
    return true
  elseif goal >= gone or goal - since > COUNTED_MAX then
    return since >= goal
  end
  local entries = redis.call('XRANGE', KEYS[2], integer(since + 1), integer(goal))
  local live = 0
  for _, entry in ipairs(entries) do
    live = live + (is_live(entry) and 1 or 0)
  end
  return live == goal - since
end

local is_complete = ARGV[1] ~= '' and ARGV[6] ~= '' and has_all(tonumber(ARGV[1]), tonumber(ARGV[6]))
local page = {known[1], integer(first), integer(last), integer(reached), is_complete and 1 or 0}
for at = 1, #found do
  local entry = found[ARGV[1] == '' and #found + 1 - at or at]
  page[#page + 1] = {integer(offset_of(entry)), entry[2][2], entry[2][4]}
end
return page
