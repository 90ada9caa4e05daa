-- Returns messages of a room after an offset, as one snapshot: epoch, first and last offset, then the messages.
-- Writes nothing.
-- ARGV: 1 the offset, or empty for the newest messages, 2 the maximum number of messages, 3 the maximum number of
-- bytes; one message is returned even if it is larger, 4 the time by the steady clock, 5 the maximum age of messages
local known = redis.call('HMGET', KEYS[1], 'epoch', 'offset')
if not known[1] then
  return {}
end
local last, messages_max, bytes_max = tonumber(known[2]), tonumber(ARGV[2]), tonumber(ARGV[3])
local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
local first = oldest and tonumber(string.match(oldest[1], '^%d+')) or last + 1

if is_log_expired(tonumber(ARGV[4]), tonumber(ARGV[5])) then
  return {known[1], integer(last + 1), integer(last)}
end

local HEADER = 3
local page, bytes = {known[1], integer(first), integer(last)}, 0

-- Inserts an entry into the page at an index. Returns false if the entry does not fit.
local function insert(entry, index)
  bytes = bytes + #entry[2][4]
  if bytes > bytes_max and #page > HEADER then
    return false
  end
  table.insert(page, index, {string.match(entry[1], '^%d+'), entry[2][2], entry[2][4]})
  return true
end

-- Reads a few entries and inserts each at the index that next_index returns. Returns whether there may be more.
local function read(command, from, to, next_index)
  local count = math.min(20, messages_max + HEADER - #page)
  local entries = redis.call(command, KEYS[2], from, to, 'COUNT', count)
  for _, entry in ipairs(entries) do
    if not insert(entry, next_index()) then
      return false
    end
  end
  return #entries > 0 and #page - HEADER < messages_max
end

local function offset_of(message)
  return tonumber(message[1])
end

if ARGV[1] == '' then
  -- Reads backwards from the newest message and inserts each before the later ones.
  local upto = last
  while read('XREVRANGE', integer(upto), '-', function() return HEADER + 1 end) do
    upto = offset_of(page[HEADER + 1]) - 1
  end
else
  local reached = tonumber(ARGV[1])
  while reached < last and read('XRANGE', integer(reached + 1), '+', function() return #page + 1 end) do
    reached = offset_of(page[#page])
  end
end
return page
