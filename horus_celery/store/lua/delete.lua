-- Forgets a record that is over, with its log. Answers 'done', or 'illegal' and the status.
local digest = ARGV[1]
local had = find(digest)
if had and not OVER[had.status] then return { 'illegal', had.status } end
if had then forget(digest, had) end
redis.call('DEL', KEY.log .. digest)
wake(digest)
return { 'done' }
