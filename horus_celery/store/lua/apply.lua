-- Makes one change if the table allows it. Answers 'done' and the record, 'missing', or
-- 'illegal' and the status. ARGV from the seventh on: the facts, field by field.
local digest, token, event, at, if_attempt, lease = unpack(ARGV, 1, 6)
local had = find(digest)
if not had then return { 'missing' } end
local status, tokens = had.status, had.tokens
-- The same change again: its answer got lost.
if string.find(tokens, token, 1, true) then return { 'done', read(digest) } end
local to = NEXT[status][event]
local is_stale = if_attempt ~= '' and not (HELD[status] and if_attempt == had.attempt)
if not to or is_stale then
  return { 'illegal', status }
end

-- Once it ran it has waited long enough.
had.not_before = status == 'created' and had.not_before
-- The four latest tokens are enough: what is sent again is sent again at once.
local set = { 'status', to, 'tokens', string.sub(token .. ' ' .. tokens, 1, 4 * (#token + 1)) }
if OVER[to] then
  set[5], set[6] = 'ended_at', at
end
for i = 7, #ARGV do set[#set + 1] = ARGV[i] end
move(digest, had, to, at, HELD[to] and lease ~= '' and lease)
redis.call('HSET', KEY.record .. digest, unpack(set))
redis.call('PUBLISH', KEY.wakes, digest)
return { 'done', read(digest) }
