-- Answers what is needed to ring for records rung before a moment, row by row.
local found = {}
for _, in_row in ipairs(redis.call('SMEMBERS', KEY.rows)) do
  bells(KEY.bells .. in_row, '(' .. ARGV[1], ARGV[2], found)
  if redis.call('EXISTS', KEY.bells .. in_row) == 0 then
    redis.call('SREM', KEY.rows, in_row)
  end
end
return found
