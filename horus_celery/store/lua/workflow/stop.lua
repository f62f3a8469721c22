-- Lets no further step start: digest, at. Answers the head, or nothing.
local digest, at = ARGV[1], ARGV[2]
local w = open(digest)
if not w then return {} end
if not OVER_OF_WORKFLOW[w.status] and not w.stop_at then
  w.stop_at = at
  redis.call('HSET', w.head, 'stop_at', at)
  for supervisor = 0, w.supervisors do redis.call('DEL', ready_set(w, supervisor)) end
  redis.call('DEL', w.todo)
  -- What runs is to be looked at now.
  for _, one in ipairs(ask('ZRANGE', w.running, 0, -1)) do
    redis.call('ZADD', w.running, at, one)
  end
  if w.status == 'created' then change_status(w, 'running') end
  close(w, at)
end
return head_of(digest)
