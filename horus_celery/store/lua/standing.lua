-- Answers the queues in which queued records stand, each before how many there are: the
-- longest ones, as many as ARGV[1]. With KEYS, indexes of which no two have a member in
-- common, only what stands in one of them is counted.
local names, lengths = {}, {}

local function length_of(set)
  -- A row of another kind hides no other.
  if redis.call('TYPE', set).ok ~= 'zset' then return 0 end
  if #KEYS == 0 then return redis.call('ZCARD', set) end
  local found = 0
  for _, index in ipairs(KEYS) do found = found + ask('ZINTERCARD', 2, set, index) end
  return found
end

for _, in_row in ipairs(ask('SMEMBERS', KEY.rows)) do
  local queue = string.match(in_row, '^%d:(.*)$')
  local length = is_queue(queue) and length_of(KEY.bells .. in_row) or 0
  if length > 0 then
    if not lengths[queue] then names[#names + 1] = queue end
    lengths[queue] = (lengths[queue] or 0) + length
  end
end

table.sort(names, function(one, other)
  if lengths[one] ~= lengths[other] then return lengths[one] > lengths[other] end
  return one < other
end)
local found = {}
for i = 1, math.min(#names, tonumber(ARGV[1])) do
  found[#found + 1], found[#found + 2] = names[i], lengths[names[i]]
end
return found
