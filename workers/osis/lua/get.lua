-- Answers an object. ARGV: the version of the model, the id.
if is_stale(ARGV[1]) then return { 'stale' } end
local record = redis.call('HGET', OBJECTS, ARGV[2])
if not record then return { 'absent' } end
return { 'ok', ARGV[2], record }
