-- Answers records that stand in every index of KEYS, newest first, each behind its
-- digest, and the sequence to go on below, or '' at the end.
local limit, below, budget = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])

-- The smallest index leads, so that the others are asked as seldom as possible.
local smallest, least = nil, math.huge
for _, index in ipairs(KEYS) do
  local size = ask('ZCARD', index)
  if size < least then smallest, least = index, size end
end

local function stands_in_all(digest)
  for _, index in ipairs(KEYS) do
    if index ~= smallest and not redis.call('ZSCORE', index, digest) then return false end
  end
  return true
end

local found, size = {}, #KEYS == 1 and limit or 200
while budget > 0 do
  local page = redis.call('ZREVRANGEBYSCORE', smallest, '(' .. below, '-inf', 'WITHSCORES',
    'LIMIT', 0, size)
  for i = 1, #page, 2 do
    below = page[i + 1]
    if stands_in_all(page[i]) then
      found[#found + 1] = { page[i], read(page[i]) }
      if #found == limit then return { found, below } end
    end
  end
  if #page < 2 * size then return { found, '' } end
  budget = budget - size
end
return { found, below }
