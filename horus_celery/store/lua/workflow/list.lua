-- Answers digest and head of workflows that stand in an index of every group, newest
-- first, and the sequence to go on below, or '' at the end. KEYS: the groups one behind
-- the other; ARGV: how many, below which sequence, how many to look at, the groups' sizes.
local limit, below, budget = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])

local groups, lead, least, at = {}, nil, math.huge, 0
for i = 4, #ARGV do
  local group, size = {}, 0
  for _ = 1, tonumber(ARGV[i]) do
    at = at + 1
    group[#group + 1] = KEYS[at]
    size = size + ask('ZCARD', KEYS[at])
  end
  groups[#groups + 1] = group
  if size < least then lead, least = group, size end
end

local function stands_in_all(digest)
  for _, group in ipairs(groups) do
    local is_here = group == lead
    for _, index in ipairs(group) do
      budget = budget - 1
      is_here = is_here or redis.call('ZSCORE', index, digest) ~= false
    end
    if not is_here then return false end
  end
  return true
end

-- The next entry of the leading group below a sequence.
local function following()
  local best, seq = nil, '-1'
  for _, index in ipairs(lead) do
    budget = budget - 1
    local one = redis.call('ZREVRANGEBYSCORE', index, '(' .. below, '-inf', 'WITHSCORES',
      'LIMIT', 0, 1)
    if one[1] and tonumber(one[2]) > tonumber(seq) then best, seq = one[1], one[2] end
  end
  return best, seq
end

-- What is no workflow stands there because others write there, who may be gone by now: it
-- would be looked at for good.
local function is_gone(digest, head)
  if head[1] or redis.call('EXISTS', part_of(digest, 'head')) == 1 then return false end
  for _, index in ipairs(lead) do leave(digest, index) end
  return true
end

local found = {}
while budget > 0 and #found < limit do
  local digest, seq = following()
  if not digest then return { found, '' } end
  below = seq
  local head = stands_in_all(digest) and head_of(digest)
  if head and not is_gone(digest, head) then found[#found + 1] = { digest, head } end
end
return { found, below }
