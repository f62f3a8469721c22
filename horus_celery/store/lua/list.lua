-- Answers records that stand in an index of every group, newest first, each behind its
-- digest, and the sequence to go on below, or '' at the end. KEYS: the groups one behind
-- the other; ARGV: the most records, below which sequence, the most entries to look at,
-- the bytes behind which no record follows, then the sizes of the groups.
local limit, below, budget = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local room = tonumber(ARGV[4])

-- The smallest group leads, so that the others are asked as seldom as possible.
local groups, lead, least, at = {}, nil, math.huge, 0
for i = 5, #ARGV do
  local group, size = {}, 0
  for _ = 1, tonumber(ARGV[i]) do
    at = at + 1
    group[#group + 1] = KEYS[at]
    size = size + ask('ZCARD', KEYS[at])
  end
  groups[#groups + 1] = group
  if size < least then lead, least = group, size end
end

local function stands_in(group, digest)
  for _, index in ipairs(group) do
    budget = budget - 1
    if redis.call('ZSCORE', index, digest) then return true end
  end
  return false
end

local function stands_in_all(digest)
  for _, group in ipairs(groups) do
    if group ~= lead and not stands_in(group, digest) then return false end
  end
  return true
end

-- Answers entries of the leading group below a sequence, newest first, and whether there
-- may be more. What one index has below the last one of another comes with a later page.
local function page(size)
  local entries, bound = {}, -math.huge
  for _, index in ipairs(lead) do
    local part = redis.call('ZREVRANGEBYSCORE', index, '(' .. below, '-inf', 'WITHSCORES',
      'LIMIT', 0, size)
    for i = 1, #part, 2 do
      entries[#entries + 1] = { digest = part[i], seq = part[i + 1] }
    end
    if #part == 2 * size then bound = math.max(bound, tonumber(part[#part])) end
  end
  if #lead > 1 then
    table.sort(entries, function(a, b) return tonumber(a.seq) > tonumber(b.seq) end)
  end
  while #entries > 0 and tonumber(entries[#entries].seq) < bound do
    entries[#entries] = nil
  end
  return entries, bound > -math.huge
end

-- One text for all fields of a record, behind their sizes, -1 being none: so many small
-- answers would take their reader longer than anything else.
local SIZES = '<' .. string.rep('i4', #FIELDS)
local function joined(values)
  local sizes = {}
  for i = 1, #FIELDS do
    sizes[i] = values[i] and #values[i] or -1
    values[i] = values[i] or ''
  end
  return struct.pack(SIZES, unpack(sizes)) .. table.concat(values)
end

-- What has no record stands there because others write there, who may be gone by now: it
-- would be looked at for good.
local function is_gone(digest, values)
  if values[1] or redis.call('EXISTS', KEY.record .. digest) == 1 then return false end
  for _, index in ipairs(lead) do leave(digest, index) end
  return true
end

local size = #groups == 1 and limit or 200
size = math.max(math.ceil(size / #lead), math.min(size, 10))
local found = {}
while budget > 0 do
  local entries, has_more = page(size)
  budget = budget - size * #lead
  for _, entry in ipairs(entries) do
    below = entry.seq
    local values = stands_in_all(entry.digest) and read(entry.digest)
    if values and not is_gone(entry.digest, values) then
      local record = joined(values)
      room = room - #record
      found[#found + 1] = { entry.digest, record }
      if #found == limit or room <= 0 then return { found, below } end
    end
  end
  if not has_more then return { found, '' } end
end
return { found, below }
