-- Answers how many members of each of the first KEYS, ARGV[1] of them, stand in one of the
-- other KEYS as well: indexes of which no two have a member in common.
local count = tonumber(ARGV[1])

local others = {}
for i = count + 1, #KEYS do
  if ask('ZCARD', KEYS[i]) > 0 then others[#others + 1] = KEYS[i] end
end

local found = {}
for i = 1, count do
  found[i] = 0
  if ask('ZCARD', KEYS[i]) > 0 then
    for _, other in ipairs(others) do
      found[i] = found[i] + redis.call('ZINTERCARD', 2, KEYS[i], other)
    end
  end
end
return found
