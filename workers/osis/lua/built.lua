-- Answers up to which object the indexes are built. ARGV: the version of the model.
if is_stale(ARGV[1]) then return { 'stale' } end
local found = redis.call('HMGET', INDEXES, 'building', 'built')
if not found[1] then return { 'done' } end
return { 'ok', found[2] }
