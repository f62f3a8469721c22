-- Notes ends of steps: digest, at, then step, digest of the job, status, reason, start and
-- end of each. Answers the head, or nothing if there is no such workflow.
local digest, at = ARGV[1], ARGV[2]
local w = open(digest)
if not w then return {} end
for i = 3, #ARGV, 6 do
  local job, status, reason, started, ended = unpack(ARGV, i + 1, i + 5)
  -- Whatever was noted before, or was never handed out, stays as it is.
  if ask('HGET', w.held, job) == ARGV[i] then
    local step = tonumber(ARGV[i])
    local s = state(w, step)
    s.status, s.started, s.ended = CODE[status], tonumber(started), tonumber(ended)
    if s.status ~= CODE.completed and s.rule >= FAILS then w.failed = 1 end
    save(w, step, s)
    if reason ~= '' then redis.call('HSET', w.reasons, step, reason) end
    redis.call('ZREM', w.running, member(step))
    redis.call('HDEL', w.held, job)
    w.left = w.left - 1
    if not w.stop_at then redis.call('RPUSH', w.todo, step .. ':0') end
  end
end
if not w.stop_at then spread(w, at) end
close(w, at)
return head_of(digest)
