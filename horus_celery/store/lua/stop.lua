-- Stops a job for good: digest, time, until when that is kept. Answers the record as it is
-- then, or nothing where there is none. A second time changes nothing.
local digest, at, kept_until = unpack(ARGV)

-- What stands far ahead was not put there by us: it would hide whatever comes after it.
local DAY = 24 * 60 * 60 * 1000
local ahead = ask('ZRANGEBYSCORE', KEY.stops, at + DAY, '+inf', 'LIMIT', 0, 100)
for _, wrong in ipairs(ahead) do leave(wrong, KEY.stops) end
local last = ask('ZREVRANGE', KEY.stops, 0, 0, 'WITHSCORES')[2]
-- In the order in which they came, whatever the clocks of several supervisors say.
local place = math.max(tonumber(at), last and tonumber(last) + 1 or 0)
ask('ZADD', KEY.stopped, 'GT', kept_until, digest)
ask('ZADD', KEY.stops, 'NX', place, digest)
-- More than a stop brings: so what is kept does not grow.
for _, old in ipairs(ask('ZRANGEBYSCORE', KEY.stopped, '-inf', '(' .. at, 'LIMIT', 0, 100)) do
  leave(old, KEY.stopped)
  leave(old, KEY.stops)
end

local had = examine(digest)
local to = had and NEXT[had.status]['asked to stop']
if to and to ~= had.status then
  local set = { 'status', to }
  if OVER[to] then set[3], set[4] = 'ended_at', at end
  move(digest, had, to, at, {})
  tell(had, to, at, {})
  redis.call('HSET', KEY.record .. digest, unpack(set))
  if OVER[to] then ring_coordinator(digest, had.summary) end
end
wake(digest)
recall(digest)
return read(digest)
