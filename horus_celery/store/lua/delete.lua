-- Forgets a record that is over, with its log. Answers 'done', or 'illegal' and the status.
local digest = ARGV[1]
local key = KEY.record .. digest
local old = redis.call('HMGET', key, 'status', 'summary')
if old[1] then
  if not OVER[old[1]] then return { 'illegal', old[1] } end
  local summary = cjson.decode(old[2])
  for _, index in ipairs(indexes(summary)) do redis.call('ZREM', index, digest) end
  redis.call('ZREM', KEY.by .. 'status:' .. old[1], digest)
  redis.call('HDEL', KEY.named .. summary.id, summary.context_id)
  redis.call('DEL', key)
end
redis.call('DEL', KEY.log .. digest)
redis.call('PUBLISH', KEY.wakes, digest)
return { 'done' }
