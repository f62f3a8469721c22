-- Deletes an object, and takes it out of all indexes. ARGV: the id. Answers whether there
-- was one.
local id = ARGV[1]
if redis.call('HEXISTS', OBJECTS, id) == 0 then return { 'absent' } end
local entries = entries_of(id)
examine(entries)
unlist(entries)
redis.call('HDEL', ENTRIES, id)
redis.call('ZREM', IDS, id_text(id))
redis.call('HDEL', OBJECTS, id)
return { 'ok' }
