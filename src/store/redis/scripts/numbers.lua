-- Stands before every script that numbers messages. KEYS are a room's: 1 its numbers, 2 its log, 3 and 4 the
-- ids of its publishes, the present and the past ones by turns.

-- Lua would write 1700000000000 as 1.7e+12.
local function whole(number)
  return string.format('%.0f', number)
end

local function milliseconds()
  local clock = redis.call('TIME')
  return clock[1] * 1000 + math.floor(clock[2] / 1000)
end

-- A room's epoch and last offset. There is a new epoch, the one that was drawn for that, when there is none yet,
-- when Redis was started anew without what it may have had (a higher run), and when it has less than a node has
-- seen of it: no offset is ever given out twice within an epoch. What is stored stays: it was acknowledged.
local function numbers(drawn, run, seen_epoch, seen_offset)
  local known = redis.call('HMGET', KEYS[1], 'epoch', 'offset', 'run')
  if known[1] then
    local offset = tonumber(known[2])
    local is_older = tonumber(known[3]) < tonumber(run)
    local has_less = known[1] == seen_epoch and offset < tonumber(seen_offset)
    if not is_older and not has_less then
      return known[1], offset
    end
    redis.call('HSET', KEYS[1], 'epoch', drawn, 'run', run)
    return drawn, offset
  end
  -- First what a full Redis refuses: after any other write it would take it.
  redis.call('HSET', KEYS[1], 'epoch', drawn, 'offset', 0, 'run', run, 'bytes', 0, 'oldest', 0, 'ids', 0,
    'ids_since', 0)
  redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
  return drawn, 0
end
