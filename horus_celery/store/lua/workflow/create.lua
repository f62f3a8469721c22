-- Records a workflow without jobs: digest, summary, at, steps, max_parallel, number of
-- other supervisors, manifest, states, bounds, children. Answers 'new', 'had' or 'taken'.
local digest, summary_json, at, steps, max_parallel, supervisors = unpack(ARGV, 1, 6)
local manifest, states, bounds, children_of = unpack(ARGV, 7, 10)
local summary = cjson.decode(summary_json)
local ids = KEY.workflow_named .. summary.id

local taken = ask('HGET', ids, summary.context_id)
if taken and taken ~= digest then return { 'taken' } end
if open(digest) then return { 'had', head_of(digest) } end

local seq = ask('INCR', KEY.workflow_sequence)
if seq == 1 then
  -- The numbers may be lost while there are workflows: then go on behind them.
  local last = ask('ZREVRANGE', KEY.workflows, 0, 0, 'WITHSCORES')[2]
  if is_whole(last) then seq = redis.call('INCRBY', KEY.workflow_sequence, last) end
end
if seq < 1 or seq > MAX_MS then damaged(KEY.workflow_sequence) end
local w = { digest = digest, summary = summary }
local places = {}
for _, index in ipairs(indexes_of_workflow(w)) do
  places[#places + 1], places[#places + 2] = index, seq
end
places[#places + 1], places[#places + 2] = KEY.workflow_by .. 'status:created', seq
enter(digest, places)
redis.call('HSET', ids, summary.context_id, digest)
redis.call('SET', part_of(digest, 'manifest'), manifest)
redis.call('SET', part_of(digest, 'states'), states)
redis.call('SET', part_of(digest, 'bounds'), bounds)
redis.call('SET', part_of(digest, 'children'), children_of)
redis.call('HSET', part_of(digest, 'head'), 'status', 'created', 'seq', seq, 'steps', steps,
  'missing', steps, 'left', steps, 'failed', 0, 'max_parallel', max_parallel,
  'supervisors', supervisors, 'summary', summary_json, 'created_at', at)
return { 'new', head_of(digest) }
