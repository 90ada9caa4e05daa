-- Messages of a room after an offset, as one moment has them. Writes nothing.
-- ARGV: 1 the offset, or nothing for the newest, 2 most messages, 3 most bytes, but always one message
local known = redis.call('HMGET', KEYS[1], 'epoch', 'offset')
if not known[1] then
  return {}
end
local last, most, bytes_max = tonumber(known[2]), tonumber(ARGV[2]), tonumber(ARGV[3])
local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
local first = oldest and tonumber(string.match(oldest[1], '^%d+')) or last + 1
local since = ARGV[1] ~= '' and tonumber(ARGV[1]) or math.max(last - most, first - 1)

local page, bytes, reached = {known[1], whole(first), whole(last), whole(since)}, 0, since
while reached < last and #page - 4 < most do
  local entries = redis.call('XRANGE', KEYS[2], whole(reached + 1), '+', 'COUNT', math.min(20, most + 4 - #page))
  if #entries == 0 then
    return page
  end
  for _, entry in ipairs(entries) do
    bytes = bytes + #entry[2][4]
    if bytes > bytes_max and #page > 4 then
      return page
    end
    reached = tonumber(string.match(entry[1], '^%d+'))
    page[#page + 1] = {whole(reached), entry[2][2], entry[2][4]}
  end
end
return page
