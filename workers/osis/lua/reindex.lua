-- Enters objects into indexes anew, each if it is still what it was when it was read. A
-- later revision was entered by who saved it. ARGV: the version of the model, the last id
-- that is done with this ('': all are); then for each object: id, revision, how many
-- entries, and of each of those field and value.
local version, upto = ARGV[1], ARGV[2]
if is_stale(version) then return { 'stale' } end
local at = 3
while at < #ARGV do
  local id, revision, count = ARGV[at], ARGV[at + 1], counted(at + 2, 2)
  local record = redis.call('HGET', OBJECTS, id)
  if record and revision_of(record) == tonumber(revision) then
    local entries, place = {}, '\0' .. id_text(id)
    for i = at + 3, at + 2 + 2 * count, 2 do
      entries[#entries + 1] = ARGV[i]
      entries[#entries + 1] = ARGV[i + 1] .. place
    end
    examine(entries)
    unlist(entries_of(id))
    enlist(id, entries)
  end
  at = at + 3 + 2 * count
end
if upto == '' then
  redis.call('UNLINK', INDEXES)
elseif redis.call('HEXISTS', INDEXES, 'building') == 1 then
  local built = tonumber(redis.call('HGET', INDEXES, 'built'))
  redis.call('HSET', INDEXES, 'built', string.format('%d', math.max(built, tonumber(upto))))
end
return { 'ok' }
