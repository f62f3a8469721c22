-- Answers what is needed to ring for records rung before a moment, row by row.
local found = {}
for _, in_row in ipairs(ask('SMEMBERS', KEY.rows)) do
  local set = KEY.bells .. in_row
  local function stands_here(had) return had.status == 'queued' and row(had) == in_row end
  -- A row of another kind hides no other; whoever writes into it hears of it.
  if redis.call('TYPE', set).ok == 'zset' then
    bells(sift(set, '(' .. ARGV[1], tonumber(ARGV[2]), stands_here), found)
  end
  if redis.call('EXISTS', set) == 0 then redis.call('SREM', KEY.rows, in_row) end
end
return found
