-- Returns a room's position to a node that has members in it, and keeps the room's numbering from expiring.
-- ARGV: 1 the epoch if numbering restarts, 2 the generation of Redis, 3 and 4 the epoch and offset that the node has
-- seen, 5 the time at which the message at that offset was stored, or empty, 6 milliseconds to keep the numbering
local seen_offset = ARGV[4]
if ARGV[5] ~= '' then
  local entry = redis.call('XRANGE', KEYS[2], seen_offset .. '-0', seen_offset .. '-0')[1]
  if entry and entry[2][2] ~= ARGV[5] then
    -- Redis lost that message and gave its offset to another: numbering must restart.
    seen_offset = math.huge
  end
end
local epoch, offset = numbering(ARGV[1], ARGV[2], ARGV[3], seen_offset)
-- The error of a replica, which rejects writes, is ignored.
redis.pcall('PEXPIRE', KEYS[1], ARGV[6])
return {epoch, integer(offset)}
