-- As delete.lua, but keeps the receipt. Answers 'missing' where there is no record.
local digest = ARGV[1]
local had = find(digest)
if not had then return { 'missing' } end
if not OVER[had.status] then return { 'illegal', had.status } end

local receipt, summary = redis.call('HGET', KEY.record .. digest, 'receipt'), had.summary
if receipt then
  local key = KEY.receipt .. digest
  -- A job that came again was refused under another receipt: each of them is kept.
  local count = ask('HLEN', key)
  ask('HSET', KEY.receipts .. summary.id, digest, summary.context_id)
  redis.call('HSET', key, 'id', summary.id, 'context_id', summary.context_id)
  redis.call('HSET', key, math.max(1, count - 1), receipt)
end
forget(digest, had)
redis.call('DEL', KEY.log .. digest)
wake(digest)
return { 'done' }
