-- Keeps the record of a job that completed elsewhere: digest, summary, envelope, when it was
-- created and ended, then the facts. Answers 'new', 'had', or 'taken'.
local digest, summary_json, envelope, created, ended = unpack(ARGV, 1, 5)
local summary = cjson.decode(summary_json)
local key, ids = KEY.record .. digest, KEY.named .. summary.id

local taken = ask('HGET', ids, summary.context_id)
if taken and taken ~= digest then return { 'taken' } end
if redis.call('EXISTS', key) == 1 then return { 'had' } end

local seq = next_sequence()
local places = {}
for _, kind in ipairs({ indexes(summary), indexes_by_status(summary, 'completed') }) do
  for _, index in ipairs(kind) do
    places[#places + 1], places[#places + 2] = index, seq
  end
end
enter(digest, places)
redis.call('HSET', ids, summary.context_id, digest)
note(digest, KEY.ended, ended)
redis.call('HSET', key, 'summary', summary_json, 'envelope', envelope, 'status', 'completed',
  'priority', '4', 'created_at', created, 'ended_at', ended, 'seq', seq, unpack(ARGV, 6))
wake(digest)
return { 'new' }
