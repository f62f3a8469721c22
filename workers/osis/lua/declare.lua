-- Makes a model what it is from now on, if it is still what the caller knows. KEYS: also
-- the set of all names. ARGV: the version known ('0': none), the body, '1' if there must
-- be no object, the name; how many indexes follow that are to be built; those; how many
-- are no more; those.
local known, body, only_empty, name = unpack(ARGV, 1, 4)
if (redis.call('HGET', MODEL, 'version') or '0') ~= known then return { 'stale' } end
local has_objects = redis.call('HLEN', OBJECTS) > 0
if only_empty == '1' and has_objects then return { 'occupied' } end

local at = 5
local function following()
  local words = {}
  for _ = 1, counted(at, 1) do
    at = at + 1
    words[#words + 1] = ARGV[at]
  end
  at = at + 1
  return words
end
local to_build, to_drop = following(), following()

-- What another change has not finished yet is still to be built, but for what goes now.
local building = {}
for word in string.gmatch(redis.call('HGET', INDEXES, 'building') or '', '%S+') do
  building[word] = true
end
for _, field in ipairs(to_build) do building[field] = true end
for _, field in ipairs(to_drop) do
  building[field] = nil
  redis.call('UNLINK', index_of(field))
end

redis.call('HSET', MODEL, 'version', tonumber(known) + 1, 'body', body)
redis.call('SADD', KEYS[4], name)
redis.call('UNLINK', INDEXES)
local fields = {}
for field in pairs(building) do fields[#fields + 1] = field end
table.sort(fields)
if has_objects and #fields > 0 then
  redis.call('HSET', INDEXES, 'building', ' ' .. table.concat(fields, ' ') .. ' ', 'built', 0)
  return { 'building' }
end
return { 'ok' }
