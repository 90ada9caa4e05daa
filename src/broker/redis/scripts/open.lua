-- Where a room's stream is, for a node that has members there. Also says that the room is in use.
-- ARGV: 1 an epoch, should numbering begin, 2 the run, 3 and 4 epoch and offset that the node has seen,
-- 5 milliseconds the numbers are kept
local epoch, offset = numbers(ARGV[1], ARGV[2], ARGV[3], ARGV[4])
-- A replica that cannot be written still says where the stream is.
redis.pcall('PEXPIRE', KEYS[1], ARGV[5])
return {epoch, whole(offset)}
