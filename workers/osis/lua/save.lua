-- Stores an object and enters it into all indexes. ARGV: the version of the model, the id
-- ('': a new one), the revision that it must have ('': any), the values; then for each
-- entry: field, value, '1' if no other object may have that.
local version, id, expected, values = unpack(ARGV, 1, 4)
if is_stale(version) then return { 'stale' } end

local revision = 0
if id ~= '' then
  local record = redis.call('HGET', OBJECTS, id)
  if not record then return { 'absent' } end
  revision = revision_of(record)
  if expected ~= '' and revision ~= tonumber(expected) then return { 'changed' } end
end
for i = 5, #ARGV, 3 do
  if ARGV[i + 2] == '1' then
    local first, behind = '[' .. ARGV[i + 1] .. '\0', '(' .. ARGV[i + 1] .. '\0:'
    local found = redis.call('ZRANGEBYLEX', index_of(ARGV[i]), first, behind, 'LIMIT', 0, 1)
    if found[1] and id_of(found[1]) ~= id then
      return { 'taken', ARGV[i], id_of(found[1]) }
    end
  end
end
local is_new = id == ''
if is_new then
  local last = tonumber(redis.call('GET', LAST) or 0)
  if last >= LAST_ID then return { 'full' } end
  id = string.format('%d', last + 1)
end
local entries, place = {}, '\0' .. id_text(id)
for i = 5, #ARGV, 3 do
  entries[#entries + 1] = ARGV[i]
  entries[#entries + 1] = ARGV[i + 1] .. place
end
local former = entries_of(id)
redis.call('HLEN', OBJECTS)
examine(former)
examine(entries)

if is_new then redis.call('SET', LAST, id) end
unlist(former)
enlist(id, entries)
redis.call('ZADD', IDS, 0, id_text(id))
local next_one = string.format('%d', revision + 1)
redis.call('HSET', OBJECTS, id, next_one .. ' ' .. version .. ' ' .. values)
return { 'ok', id, next_one }
