-- Answers steps (step, ids) that are to be looked at, and how many other supervisors there
-- are: digest, at, when again, how many, the
-- number of their supervisor.
local digest, at, again_at, limit = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local supervisor = tonumber(ARGV[5])
put_off(digest, again_at)
local w = open(digest)
if not w or w.status ~= 'running' then
  leave(digest, KEY.workflow_due)
  return { {}, 0 }
end
hurry(w.running, at)
for number = 0, w.supervisors do hurry(ready_set(w, number), at) end
local found = {}
-- Those of other supervisors stay in the way: so many are passed by, and no more.
for _, one in ipairs(ask('ZRANGEBYSCORE', w.running, '-inf', at, 'LIMIT', 0, EDGES)) do
  local step = tonumber(one)
  if #found == limit then break end
  if w.supervisors == 0 or state(w, step).supervisor == supervisor then
    found[#found + 1] = { step, ids_of(w, step) }
    redis.call('ZADD', w.running, again_at, one)
  end
end
close(w, at)
return { found, w.supervisors }
