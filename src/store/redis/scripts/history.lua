-- Messages of a room after an offset, as one moment has them. Writes nothing.
-- ARGV: 1 the offset, or nothing for the newest, 2 most messages, 3 most bytes, but always one message
local known = redis.call('HMGET', KEYS[1], 'epoch', 'offset')
if not known[1] then
  return {}
end
local last, most, bytes_max = tonumber(known[2]), tonumber(ARGV[2]), tonumber(ARGV[3])
local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
local first = oldest and tonumber(string.match(oldest[1], '^%d+')) or last + 1

local page, bytes = {known[1], whole(first), whole(last)}, 0
-- Takes an entry, unless the page has enough bytes. Says whether it was taken.
local function take(entry, at)
  bytes = bytes + #entry[2][4]
  if bytes > bytes_max and #page > 3 then
    return false
  end
  table.insert(page, at, {string.match(entry[1], '^%d+'), entry[2][2], entry[2][4]})
  return true
end

-- Some entries at a time, from an id on. Says whether there may be more.
local function read(command, from, to, place)
  local entries = redis.call(command, KEYS[2], from, to, 'COUNT', math.min(20, most + 3 - #page))
  for _, entry in ipairs(entries) do
    if not take(entry, place()) then
      return false
    end
  end
  return #entries > 0 and #page - 3 < most
end

local function number(entry)
  return tonumber(entry[1])
end

if ARGV[1] == '' then
  -- The newest first, each before those that are there.
  local reached = last
  while read('XREVRANGE', whole(reached), '-', function() return 4 end) do
    reached = number(page[4]) - 1
  end
else
  local reached = tonumber(ARGV[1])
  while reached < last and read('XRANGE', whole(reached + 1), '+', function() return #page + 1 end) do
    reached = number(page[#page])
  end
end
return page
