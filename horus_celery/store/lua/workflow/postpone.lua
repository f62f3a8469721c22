-- Gives back a step that could not be started: digest, step, until, note, at.
local digest, step, till, note_of, at = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local w = open(digest)
if not w then return 0 end
local s = state(w, step)
if s.status ~= CODE.queued then return 0 end
s.status, s.started = CODE.ready, 0
save(w, step, s)
redis.call('ZREM', w.running, member(step))
redis.call('HDEL', w.held, to_hex(string.sub(ids_of(w, step), 17)))
redis.pcall('HSET', w.reasons, step, note_of)
redis.call('ZADD', ready_set(w, s.supervisor), till, member(step))
close(w, at)
return 1
