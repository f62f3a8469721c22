-- Answers how many entries an index has. ARGV: the version of the model, the field ('':
-- all objects), from and to where.
local version, field, from, to = unpack(ARGV)
if is_stale(version) then return { 'stale' } end
if is_building(field) then return { 'building' } end
return { 'ok', redis.call('ZLEXCOUNT', index_of(field), from, to) }
