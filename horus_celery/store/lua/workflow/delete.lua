-- Forgets a workflow that is over: digest. Answers 'done', or 'illegal' and the status.
local digest = ARGV[1]
local w = open(digest)
if not w then
  leave(digest, KEY.workflow_ended)
  return { 'done' }
end
if not OVER_OF_WORKFLOW[w.status] then return { 'illegal', w.status } end
for _, index in ipairs(indexes_of_workflow(w)) do leave(digest, index) end
leave(digest, KEY.workflow_by .. 'status:' .. w.status)
leave(digest, KEY.workflow_ended)
leave(digest, KEY.workflow_due)
redis.pcall('HDEL', KEY.workflow_named .. w.summary.id, w.summary.context_id)
for supervisor = 0, w.supervisors do redis.call('DEL', ready_set(w, supervisor)) end
-- The head comes last: what breaks before can be done again.
for _, part in ipairs({ 'manifest', 'states', 'bounds', 'children', 'ids', 'jobs', 'running',
  'held', 'todo', 'reasons', 'marks', 'head' }) do
  redis.call('DEL', part_of(digest, part))
end
redis.call('PUBLISH', KEY.wakes, digest)
return { 'done' }
