-- Answers what is needed to ring for records rung before a moment, row by row.
-- Callers name queues: of many of them fewer bells each are read, so that others have
-- their turn. The oldest one of a row tells whether there is anything to do.
local MOST = 1000
local found, rows = {}, ask('SMEMBERS', KEY.rows)
local limit = math.min(tonumber(ARGV[2]), math.ceil(MOST / math.max(1, #rows)))
for _, in_row in ipairs(rows) do
  local set = KEY.bells .. in_row
  local function stands_here(had) return had.status == 'queued' and row(had) == in_row end
  -- A row of another kind hides no other; whoever writes into it hears of it.
  if redis.call('TYPE', set).ok == 'zset' then
    bells(sift(set, '(' .. ARGV[1], limit, stands_here), found)
  end
  if redis.call('EXISTS', set) == 0 then redis.call('SREM', KEY.rows, in_row) end
end
return found
