-- Records a job, as created or as queued. Answers 'new', or 'had' and the record, or 'taken'.
local digest, summary_json, envelope, at, priority, not_before, queue = unpack(ARGV)
local summary = cjson.decode(summary_json)
local key, ids = KEY.record .. digest, KEY.named .. summary.id
local had = {
  executor = summary.executor,
  priority = tonumber(priority),
  not_before = not_before ~= '' and not_before,
  expires_at = summary.expires_at,
}

local taken = redis.call('HGET', ids, summary.context_id)
if taken and taken ~= digest then return { 'taken' } end

local old = redis.call('HMGET', key, 'status', 'seq', 'priority', 'not_before')
if old[1] then
  local to = queue == '1' and old[1] == 'created' and NEXT['created']['queued']
  if to then
    had.seq, had.priority, had.not_before = old[2], tonumber(old[3]), old[4]
    redis.call('HSET', key, 'status', to, 'queued_at', at)
    move(digest, had, 'created', to, at)
    redis.call('PUBLISH', KEY.wakes, digest)
  end
  return { 'had', read(digest) }
end

local status = queue == '1' and NEXT['created']['queued'] or 'created'
had.seq = redis.call('INCR', KEY.sequence)
redis.call('HSET', key, 'summary', summary_json, 'envelope', envelope, 'status', status,
  'priority', priority, 'created_at', at, 'seq', had.seq)
if had.not_before then redis.call('HSET', key, 'not_before', not_before) end
if status == 'queued' then
  redis.call('HSET', key, 'queued_at', at)
  enter_queue(digest, had, at)
end
redis.call('HSET', ids, summary.context_id, digest)
redis.call('ZADD', KEY.expiring, had.expires_at, digest)
for _, index in ipairs(indexes(summary)) do redis.call('ZADD', index, had.seq, digest) end
redis.call('ZADD', KEY.by .. 'status:' .. status, had.seq, digest)
redis.call('PUBLISH', KEY.wakes, digest)
return { 'new' }
