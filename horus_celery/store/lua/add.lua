-- Records a job, as created or as queued, or as stopped where it was stopped for good.
-- Answers 'new' or 'had', the record that it had, and why no runner was told, if that is so;
-- or 'taken'.
local digest, summary_json, envelope, at, priority, not_before, queue, bell, bells =
  unpack(ARGV)
local summary = cjson.decode(summary_json)
local key, ids = KEY.record .. digest, KEY.named .. summary.id

-- Tells the runners of its queue that it is there, once it is. The record is what counts.
local function ring()
  local answer = bell ~= '' and redis.pcall('LPUSH', bells, bell)
  return type(answer) == 'table' and answer.err or nil
end

local taken = ask('HGET', ids, summary.context_id)
if taken and taken ~= digest then return { 'taken' } end
local is_stopped = stopped_until(digest)

if redis.call('EXISTS', key) == 1 then
  local old = find(digest) or damaged(key)
  local to = queue ~= '' and not is_stopped and old.status == 'created'
    and NEXT['created']['queued']
  if to then
    old.queue = queue
    move(digest, old, to, at, {})
    note_queue(digest, old)
    redis.call('HSET', key, 'status', to, 'queued_at', at)
    wake(digest, to)
  end
  return { 'had', read(digest), to and ring() or nil }
end

local status = queue ~= '' and NEXT['created']['queued'] or 'created'
if is_stopped then status = NEXT['created']['asked to stop'] end
local seq = next_sequence()

local new = {
  executor = summary.executor,
  queue = queue,
  priority = tonumber(priority),
  not_before = not_before ~= '' and not_before,
}
local places = {}
if EXPIRES[status] then places[1], places[2] = KEY.expiring, summary.expires_at end
for _, kind in ipairs({ indexes(summary), indexes_by_status(summary, status) }) do
  for _, index in ipairs(kind) do
    places[#places + 1], places[#places + 2] = index, seq
  end
end
if status == 'queued' then add_queue(places, new, at) end
enter(digest, places)

redis.call('HSET', ids, summary.context_id, digest)
redis.call('HSET', key, 'summary', summary_json, 'envelope', envelope, 'status', status,
  'priority', priority, 'created_at', at, 'seq', seq)
if new.not_before then redis.call('HSET', key, 'not_before', not_before) end
if OVER[status] then
  redis.call('HSET', key, 'ended_at', at)
  note(digest, KEY.ended, at)
  ring_coordinator(digest, summary)
end
if status == 'queued' then
  redis.call('HSET', key, 'queued_at', at)
  note_queue(digest, new)
end
wake(digest, status)
if is_stopped then return { 'had', read(digest) } end
return { 'new', false, status == 'queued' and ring() or nil }
