-- Answers a model: its version and its body.
local found = redis.call('HMGET', MODEL, 'version', 'body')
if not found[1] then return { 'unknown' } end
return { 'ok', found[1], found[2] }
