-- Renews a lease. Answers 'done', 'illegal' or 'missing', and the status.
local digest, attempt, lease = unpack(ARGV)
local key = KEY.record .. digest
local old = ask('HMGET', key, 'status', 'attempt', 'ran_on', 'seq')
local status = old[1]
-- Where that is damaged, the record says enough.
local is_stopped = type(redis.pcall('ZSCORE', KEY.stopped, digest)) == 'string'
local stopping = NEXT['running']['asked to stop']
-- Deleted as it was stopped: its runner shall hear of that.
if not status and is_stopped then return { 'done', stopping } end
if not status then return { 'missing' } end
if not NEXT[status] then damaged(key) end
if not HELD[status] or old[2] ~= attempt then return { 'illegal', status } end
if is_stopped and status ~= stopping then
  -- Not by us: a stop changes both at once.
  move(digest, find(digest), stopping, lease, { lease = lease })
  redis.call('HSET', key, 'status', stopping)
  status = stopping
end
ask('ZADD', KEY.leases, lease, digest)
if is_name(old[3]) and is_whole(old[4]) then note(digest, KEY.held .. old[3], old[4]) end
return { 'done', status }
