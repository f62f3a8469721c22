-- Answers names of queues in which records stand: how many at most.
local most, found, has = tonumber(ARGV[1]), {}, {}
local rows = redis.pcall('SMEMBERS', KEY.rows)
for _, in_row in ipairs(rows.err and {} or rows) do
  local queue = string.match(in_row, '^%d:(.+)$')
  if is_queue(queue) and not has[queue] and redis.call('EXISTS', KEY.bells .. in_row) == 1 then
    has[queue] = true
    found[#found + 1] = queue
    if #found >= most then break end
  end
end
return found
