-- Starts a workflow that has all of its jobs: digest, at. Answers 'done' and the head,
-- 'missing', or 'incomplete' and how many jobs are missing.
local digest, at = ARGV[1], ARGV[2]
local w = open(digest)
if not w then return { 'missing' } end
if w.status == 'created' then
  if w.missing > 0 then return { 'incomplete', w.missing } end
  change_status(w, 'running')
  redis.call('HSET', w.head, 'started_at', at)
  redis.call('RPUSH', w.todo, w.steps .. ':0')
  spread(w, at)
  close(w, at)
end
return { 'done', head_of(digest) }
