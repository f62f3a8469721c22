-- Renews a lease. Answers 'done', 'illegal' or 'missing', and the status.
local digest, attempt, lease = unpack(ARGV)
local old = ask('HMGET', KEY.record .. digest, 'status', 'attempt', 'ran_on', 'seq')
if not old[1] then return { 'missing' } end
if not NEXT[old[1]] then damaged(KEY.record .. digest) end
if not HELD[old[1]] or old[2] ~= attempt then return { 'illegal', old[1] } end
ask('ZADD', KEY.leases, lease, digest)
if is_name(old[3]) and is_whole(old[4]) then note(digest, KEY.held .. old[3], old[4]) end
return { 'done', old[1] }
