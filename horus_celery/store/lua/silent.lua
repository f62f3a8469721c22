-- Answers what is needed to ring for records rung before a moment, row by row.
-- Callers name queues: of many of them fewer bells each are read, so that others have
-- their turn. The oldest one of a row tells whether there is anything to do.
local MOST = 1000

-- Those that a clock rang which was ahead, as sift() answers them.
local function ahead(set, limit, wanted)
  local kept = {}
  local page = ask('ZRANGEBYSCORE', set, '(' .. ARGV[3], '+inf', 'WITHSCORES', 'LIMIT', 0,
    limit)
  for i = 1, #page, 2 do
    local had = examine(page[i])
    if had and wanted(had) then
      kept[#kept + 1] = { page[i], page[i + 1], had }
    else
      redis.call('ZREM', set, page[i])
    end
  end
  return kept
end

local found, rows = {}, ask('SMEMBERS', KEY.rows)
local limit = math.min(tonumber(ARGV[2]), math.ceil(MOST / math.max(1, #rows)))
for _, in_row in ipairs(rows) do
  local set = KEY.bells .. in_row
  local function stands_here(had) return had.status == 'queued' and row(had) == in_row end
  -- A row of another kind hides no other; whoever writes into it hears of it.
  if redis.call('TYPE', set).ok == 'zset' then
    bells(sift(set, '(' .. ARGV[1], limit, stands_here), found)
    bells(ahead(set, limit, stands_here), found)
  end
  if redis.call('EXISTS', set) == 0 then redis.call('SREM', KEY.rows, in_row) end
end
return found
