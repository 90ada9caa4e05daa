-- Deletes messages of a room. Returns their number.
-- ARGV: 1 the offset of the message, or empty for all messages, 2 the time by the steady clock
local known = redis.call('HMGET', KEYS[1], 'epoch', 'expires')
if not known[1] then
  return 0
end
if ARGV[1] == '' then
  local messages = redis.call('XLEN', KEYS[2])
  redis.call('DEL', KEYS[2], KEYS[5])
  redis.call('HSET', KEYS[1], 'bytes', 0)
  redis.call('HDEL', KEYS[1], 'expires')
  return messages
end
local id = ARGV[1] .. '-0'
local entry = redis.call('XRANGE', KEYS[2], id, id)[1]
local expiry = entry and expiry_of(entry)
if not entry or (expiry and expiry <= tonumber(ARGV[2])) then
  return 0
end
redis.call('XDEL', KEYS[2], id)
redis.call('ZREM', KEYS[5], ARGV[1])
record_removed(#entry[2][4], tonumber(ARGV[1]), tonumber(known[2]))
return 1
