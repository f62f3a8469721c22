-- Makes one change if the table allows it. Answers 'done' and the record, 'missing', or
-- 'illegal' and the status. ARGV from the seventh on: the facts, field by field.
local digest, token, event, at, if_attempt, lease = unpack(ARGV, 1, 6)
local key = KEY.record .. digest
local old = redis.call('HMGET', key, 'status', 'tokens', 'attempt', 'seq', 'priority',
  'not_before', 'summary')
local status, tokens = old[1], old[2] or ''
if not status then return { 'missing' } end
-- The same change again: its answer got lost.
if string.find(tokens, token, 1, true) then return { 'done', read(digest) } end
local to = (NEXT[status] or {})[event]
local is_stale = if_attempt ~= '' and not (HELD[status] and if_attempt == old[3])
if not to or is_stale then
  return { 'illegal', status }
end

local summary = cjson.decode(old[7])
local had = {
  seq = old[4],
  executor = summary.executor,
  priority = tonumber(old[5]),
  -- Once it ran it has waited long enough.
  not_before = status == 'created' and old[6],
  expires_at = summary.expires_at,
}
-- The four latest tokens are enough: what is sent again is sent again at once.
local set = { 'status', to, 'tokens', string.sub(token .. ' ' .. tokens, 1, 4 * (#token + 1)) }
if OVER[to] then
  set[5], set[6] = 'ended_at', at
end
for i = 7, #ARGV do set[#set + 1] = ARGV[i] end
redis.call('HSET', key, unpack(set))
move(digest, had, status, to, at)
if HELD[to] and lease ~= '' then redis.call('ZADD', KEY.leases, lease, digest) end
redis.call('PUBLISH', KEY.wakes, digest)
return { 'done', read(digest) }
