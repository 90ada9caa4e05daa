-- Where a room's stream is, for a node that has members there. Also says that the room is in use.
-- ARGV: 1 an epoch, should it be another one, 2 the run, 3 and 4 epoch and offset that the node has seen, 5 when the
-- message at that offset was stored, or nothing, 6 milliseconds the numbers are kept
local seen_offset = ARGV[4]
if ARGV[5] ~= '' then
  local entry = redis.call('XRANGE', KEYS[2], seen_offset .. '-0', seen_offset .. '-0')[1]
  if entry and entry[2][2] ~= ARGV[5] then
    -- It had lost that message and has given its offset to another one.
    seen_offset = math.huge
  end
end
local epoch, offset = numbers(ARGV[1], ARGV[2], ARGV[3], seen_offset)
-- A replica that cannot be written still says where the stream is.
redis.pcall('PEXPIRE', KEYS[1], ARGV[6])
return {epoch, whole(offset)}
