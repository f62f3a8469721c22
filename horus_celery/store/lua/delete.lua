-- Forgets a record that is over, with its log. Answers 'done', or 'illegal' and the status.
local digest = ARGV[1]
local had = find(digest)
if had then
  if not OVER[had.status] then return { 'illegal', had.status } end
  local summary = had.summary
  for _, index in ipairs(indexes(summary)) do leave(digest, index) end
  leave(digest, KEY.by .. 'status:' .. had.status)
  redis.pcall('HDEL', KEY.named .. summary.id, summary.context_id)
  redis.call('DEL', KEY.record .. digest)
end
redis.call('DEL', KEY.log .. digest)
redis.call('PUBLISH', KEY.wakes, digest)
return { 'done' }
