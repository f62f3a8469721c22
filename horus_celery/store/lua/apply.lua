-- Makes one change if the table allows it. Answers 'done' and the record if that is wanted,
-- 'missing', 'illegal' and the status, or 'stopped' if a job is claimed that was stopped for
-- good. ARGV from the tenth on: so many lines for the log, then the facts, field by field.
local digest, token, event, at, if_attempt, lease, queue, wanted, lines = unpack(ARGV, 1, 9)
local function done() return { 'done', wanted ~= '' and read(digest) or nil } end
local had = find(digest)
if not had then return { 'missing' } end
local status, tokens = had.status, had.tokens
-- The same change again: its answer got lost.
if string.find(tokens, token, 1, true) then return done() end
local to = NEXT[status][event]
local is_stale = if_attempt ~= '' and not (HELD[status] and if_attempt == had.attempt)
if not to or is_stale then
  return { 'illegal', status }
end
if event == 'claimed' and stopped_until(digest) then return { 'stopped' } end

-- The four latest tokens are enough: what is sent again is sent again at once.
local set = { 'status', to, 'tokens', string.sub(token .. ' ' .. tokens, 1, 4 * (#token + 1)) }
if OVER[to] then
  set[5], set[6] = 'ended_at', at
end
local facts = { lease = lease ~= '' and lease }
local first = 10 + lines
for i = first, #ARGV do set[#set + 1] = ARGV[i] end
for i = first, #ARGV, 2 do facts[ARGV[i]] = ARGV[i + 1] end
local moved = to == 'queued' and queue ~= '' and queue ~= had.queue
if moved then had.queue = queue end
-- Once it ran it has waited long enough, unless it is to wait again.
if to == 'queued' and status ~= 'created' then had.not_before = facts.not_before or false end
move(digest, had, to, at, facts)
tell(had, to, at, facts)
redis.call('HSET', KEY.record .. digest, unpack(set))
-- A log of another kind hides no end.
if first > 10 then redis.pcall('RPUSH', KEY.log .. digest, unpack(ARGV, 10, first - 1)) end
if OVER[to] then ring_coordinator(digest, had.summary) end
if moved then note_queue(digest, had) end
wake(digest, to)
-- Of these two it is the holder who tells.
if HELD[status] and to ~= 'completed' and to ~= 'stopped' then recall(digest) end
return done()
