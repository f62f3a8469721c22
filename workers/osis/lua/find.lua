-- Answers objects in the order of an index, each behind its id. ARGV: the version of the
-- model, the field ('': all objects), from and to where, the most objects, the bytes
-- behind which no further one follows.
local version, field, from, to, limit, room = unpack(ARGV)
if is_stale(version) then return { 'stale' } end
if is_building(field) then return { 'building' } end
-- No page is larger, whatever a caller says.
limit, room = math.min(tonumber(limit), 1000), math.min(tonumber(room), 8388608)
local found = { 'ok' }
local members = redis.call('ZRANGEBYLEX', index_of(field), from, to, 'LIMIT', 0, limit)
for _, member in ipairs(members) do
  if room <= 0 then break end
  local id = id_of(member)
  local record = redis.call('HGET', OBJECTS, id)
  if record then
    found[#found + 1] = id
    found[#found + 1] = record
    room = room - #record
  end
end
return found
