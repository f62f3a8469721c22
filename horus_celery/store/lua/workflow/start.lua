-- Starts a workflow that has all of its jobs: digest, at, strategy. Answers 'done' and the head,
-- 'missing', or 'incomplete' and how many jobs are missing.
local digest, at, strategy = ARGV[1], ARGV[2], ARGV[3]
local w = open(digest)
if not w then return { 'missing' } end
if w.status == 'created' then
  if w.missing > 0 then return { 'incomplete', w.missing } end
  change_status(w, 'running')
  count(1, 'workflow', '', 'started')
  redis.call('HSET', w.head, 'started_at', at)
  if strategy == CANVAS then
    w.is_by_canvas = true
    redis.call('HSET', w.head, 'strategy', strategy)
  end
  redis.call('RPUSH', w.todo, w.steps .. ':0')
  spread(w, at)
  close(w, at)
end
return { 'done', head_of(digest) }
