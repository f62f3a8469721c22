-- Answers how many records each runner holds: ARGV.
local counts = {}
for i, runner in ipairs(ARGV) do
  local function is_here(had) return HELD[had.status] and had.ran_on == runner end
  counts[i] = #sift(KEY.held .. runner, '+inf', BUDGET, is_here)
end
return counts
