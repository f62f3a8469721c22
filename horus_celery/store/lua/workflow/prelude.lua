-- What the scripts of workflows stand on, behind the prelude of all. In front of it the
-- store writes CODE (step status to number), RULES (number of `when` to what decides a
-- step), FAILS, STATE, STATE_SIZE, GRACE, CANVAS and OVER_OF_WORKFLOW.
--
-- Keys of a workflow, `KEY.workflow .. '{' .. digest .. '}:' .. part`:
--   head      hash: status, seq, steps, missing, left, failed, max_parallel, supervisors,
--             summary, created_at, started_at, ended_at, stop_at, strategy
--   manifest  string, the packed envelope
--   states    string, STATE of each step
--   bounds    string, a number of 4 bytes for each step and one more: where its children
--             begin in `children`. The step behind the last one stands before all roots.
--   children  string, numbers of 4 bytes
--   ids       string, 48 bytes a step: its job's id and digest; zeros: no job yet
--   jobs      hash, step to packed envelope
--   ready:N   sorted set of the steps for supervisor N that may start, by when
--   running   sorted set of steps that were handed out, by when they are looked at again
--   held      hash, digest of a job that was handed out to its step
--   todo      list of `STEP:FROM`: steps whose end is still to be told to their children
--   reasons   hash, step to why it ended so, or why it could not be started
--   marks     hash, MARK:MEMBER to 1, and MARK to how many there are; of what runs by canvas

-- Edges that one script follows before it lets others have their turn.
local EDGES = 4000

local function part_of(digest, part)
  return KEY.workflow .. '{' .. digest .. '}:' .. part
end

-- Answers a workflow, nil if there is none; ends the script if it is damaged.
local function open(digest)
  local head = part_of(digest, 'head')
  local v = ask('HMGET', head, 'status', 'seq', 'steps', 'missing', 'left', 'failed',
    'max_parallel', 'supervisors', 'stop_at', 'summary', 'strategy')
  if not v[1] then return nil end
  local is_json, summary = pcall(cjson.decode, v[10])
  local is_sound = is_json and type(summary) == 'table' and is_name(summary.context_id)
    and is_name(summary.caller_id) and is_name(summary.id) and is_whole_or_missing(v[9])
  for at = 2, 8 do is_sound = is_sound and is_whole(v[at]) end
  -- Scripts go through all supervisors: a number alone could keep them busy for ever.
  is_sound = is_sound and type(summary.supervisors) == 'table'
    and #summary.supervisors == tonumber(v[8])
  if not is_sound then damaged(head) end
  return {
    digest = digest,
    head = head,
    status = v[1],
    seq = v[2],
    steps = tonumber(v[3]),
    missing = tonumber(v[4]),
    left = tonumber(v[5]),
    failed = tonumber(v[6]),
    max_parallel = tonumber(v[7]),
    supervisors = tonumber(v[8]),
    stop_at = v[9],
    is_by_canvas = v[11] == CANVAS,
    summary = summary,
    states = part_of(digest, 'states'),
    todo = part_of(digest, 'todo'),
    running = part_of(digest, 'running'),
    held = part_of(digest, 'held'),
    reasons = part_of(digest, 'reasons'),
  }
end

local FIELDS_OF_HEAD = { 'summary', 'status', 'steps', 'missing', 'left', 'created_at',
  'started_at', 'ended_at', 'stop_at', 'strategy' }

local function head_of(digest)
  return ask('HMGET', part_of(digest, 'head'), unpack(FIELDS_OF_HEAD))
end

-- Sets order entries of the same moment by their text: so as the numbers do.
local function member(step) return string.format('%06d', step) end

local function require_step(w, step, key)
  local is_step = step and step >= 0 and step < w.steps and step % 1 == 0
  if not is_step then damaged(key) end
end

local function state(w, step)
  require_step(w, step, w.states)
  local raw = ask('GETRANGE', w.states, step * STATE_SIZE, (step + 1) * STATE_SIZE - 1)
  if #raw ~= STATE_SIZE then damaged(w.states) end
  local s = {}
  s.status, s.rule, s.supervisor, s.parents, s.over, s.started, s.ended =
    struct.unpack(STATE, raw)
  return s
end

local function save(w, step, s)
  redis.call('SETRANGE', w.states, step * STATE_SIZE, struct.pack(STATE, s.status, s.rule,
    s.supervisor, s.parents, s.over, s.started, s.ended))
end

-- Answers what becomes of a step that waits, as one parent more ended so; nil: it waits
-- still. RULES are those of the one table of them (dag/progress.py).
local function decide(s, how)
  local rule = RULES[s.rule % FAILS]
  if rule[how] then return rule.at_once end
  return s.over == s.parents and rule.at_last or nil
end

local function ready_set(w, supervisor) return part_of(w.digest, 'ready:' .. supervisor) end

-- Tells one step that one before it ended with `how`, nil for what stands before roots.
local function tell_child(w, step, how, at)
  local s = state(w, step)
  if how then s.over = s.over + 1 end
  if s.status == CODE.pending then
    local decision = not how and 'start' or decide(s, how)
    if decision == 'start' then
      s.status = CODE.ready
      -- For so long it is left to the message that canvas brings.
      local from = w.is_by_canvas and string.format('%d', tonumber(at) + GRACE) or at
      redis.call('ZADD', ready_set(w, s.supervisor), from, member(step))
    elseif decision == 'skip' then
      s.status, s.ended = CODE.skipped, tonumber(at)
      count(1, 'step', '', 'skipped')
      w.left = w.left - 1
      redis.call('RPUSH', w.todo, step .. ':0')
    end
  end
  save(w, step, s)
end

-- Answers up to `most` children of a step from one on, and whether there are more.
local function children(w, step, from, most)
  local bounds = ask('GETRANGE', part_of(w.digest, 'bounds'), step * 4, step * 4 + 7)
  if #bounds ~= 8 then damaged(part_of(w.digest, 'bounds')) end
  local first, last = struct.unpack('<I4I4', bounds)
  if last < first then damaged(part_of(w.digest, 'bounds')) end
  local count = math.min(last - first - from, most)
  local found = {}
  if count <= 0 then return found, false end
  local key = part_of(w.digest, 'children')
  local raw = ask('GETRANGE', key, (first + from) * 4, (first + from + count) * 4 - 1)
  if #raw ~= count * 4 then damaged(key) end
  for at = 1, #raw, 4 do
    local child = struct.unpack('<I4', raw, at)
    if child >= w.steps then damaged(key) end
    found[#found + 1] = child
  end
  return found, first + from + count < last
end

-- Tells the children of what ended, as many as there is time for.
local function spread(w, at)
  local budget = EDGES
  while budget > 0 do
    local item = ask('LINDEX', w.todo, 0)
    if not item then return end
    local step, from = string.match(item, '^(%d+):(%d+)$')
    if not step then damaged(w.todo) end
    step, from = tonumber(step), tonumber(from)
    local found, has_more = children(w, step, from, budget)
    -- What is left is noted first: a script that breaks later tells nobody twice.
    if has_more then
      redis.call('LSET', w.todo, 0, step .. ':' .. from + #found)
    else
      redis.call('LPOP', w.todo)
    end
    local how = step < w.steps and state(w, step).status or nil
    for _, child in ipairs(found) do tell_child(w, child, how, at) end
    budget = budget - #found - 1
  end
end

local function indexes_of_workflow(w)
  local by = KEY.workflow_by
  return { KEY.workflows, by .. 'context_id:' .. w.summary.context_id,
    by .. 'caller_id:' .. w.summary.caller_id }
end

local function change_status(w, to)
  leave(w.digest, KEY.workflow_by .. 'status:' .. w.status)
  ask('ZADD', KEY.workflow_by .. 'status:' .. to, w.seq, w.digest)
  w.status = to
  redis.call('HSET', w.head, 'status', to)
end

local function has_work_left(w) return ask('LLEN', w.todo) > 0 end

-- Writes what changed of a workflow, ends it if it is over, and notes when something is
-- to be done in it next.
local function close(w, at)
  local running = ask('ZCARD', w.running)
  -- What was never handed out of a workflow that is to stop was skipped.
  if w.stop_at and running == 0 and w.left > 0 then
    count(w.left, 'step', '', 'skipped')
    w.left = 0
  end
  redis.call('HSET', w.head, 'left', w.left, 'failed', w.failed)
  if w.status == 'running' and w.left == 0 then
    local to = w.stop_at and 'stopped' or w.failed == 1 and 'failed' or 'completed'
    change_status(w, to)
    count(1, 'workflow', '', to)
    redis.call('HSET', w.head, 'ended_at', at)
    ask('ZADD', KEY.workflow_ended, at, w.digest)
    redis.call('DEL', w.todo, w.held, part_of(w.digest, 'marks'))
    redis.call('PUBLISH', KEY.wakes, w.digest)
  end
  if w.status ~= 'running' then
    leave(w.digest, KEY.workflow_due)
    return
  end
  local due = ask('ZRANGE', w.running, 0, 0, 'WITHSCORES')[2]
  due = due and tonumber(due) or math.huge
  if has_work_left(w) then due = 0 end
  if not w.stop_at and (w.max_parallel == 0 or running < w.max_parallel) then
    for supervisor = 0, w.supervisors do
      local first = ask('ZRANGE', ready_set(w, supervisor), 0, 0, 'WITHSCORES')[2]
      if first then due = math.min(due, tonumber(first)) end
    end
  end
  if due < math.huge then
    ask('ZADD', KEY.workflow_due, string.format('%d', due), w.digest)
  else
    leave(w.digest, KEY.workflow_due)
  end
end

-- What is put off is so for a minute at most. What stands further ahead was put there by a
-- clock that was ahead, or by nobody of us; its turn would never come.
local AHEAD = 60 * 60 * 1000
local function hurry(set, at)
  local ahead = string.format('%d', at + AHEAD)
  for _, one in ipairs(ask('ZRANGEBYSCORE', set, ahead, '+inf', 'LIMIT', 0, EDGES)) do
    redis.call('ZADD', set, at, one)
  end
end

-- Has a workflow wait behind the others, whose turn would not come if this one always
-- broke; close() puts it where it belongs.
local function put_off(digest, till)
  redis.pcall('ZADD', KEY.workflow_due, 'XX', 'GT', till, digest)
end

local function ids_of(w, step)
  require_step(w, step, part_of(w.digest, 'ids'))
  local raw = ask('GETRANGE', part_of(w.digest, 'ids'), step * 48, step * 48 + 47)
  if #raw ~= 48 then damaged(part_of(w.digest, 'ids')) end
  return raw
end

local function to_hex(raw)
  return (string.gsub(raw, '.', function(c) return string.format('%02x', string.byte(c)) end))
end

-- Notes ends of steps, the time being the second argument, from another one on: digest of the job, status, reason, start and
-- end of each. Whatever was noted before, or was never handed out, stays as it is. Answers
-- the steps that completed by that, if canvas goes on from them.
local function note_ends(w, from)
  local done = {}
  for i = from, #ARGV, 5 do
    local job, status, reason, started, ended = unpack(ARGV, i, i + 4)
    local step = tonumber(ask('HGET', w.held, job) or nil)
    if step then
      local s = state(w, step)
      s.status, s.started, s.ended = CODE[status], tonumber(started), tonumber(ended)
      if s.status ~= CODE.completed and s.rule >= FAILS then w.failed = 1 end
      save(w, step, s)
      count(1, 'step', '', status)
      count_time('noticed', '', s.ended, tonumber(ARGV[2]))
      -- What is only read by people stops nobody when it is damaged.
      if reason ~= '' then redis.pcall('HSET', w.reasons, step, reason) end
      redis.call('ZREM', w.running, member(step))
      redis.call('HDEL', w.held, job)
      w.left = w.left - 1
      if not w.stop_at then redis.call('RPUSH', w.todo, step .. ':0') end
      if w.is_by_canvas and s.status == CODE.completed then done[#done + 1] = step end
    end
  end
  return done
end

-- Hands out a step that is ready, for a while; answers step, ids and envelope.
local function hand_out(w, step, s, till)
  local ids = ids_of(w, step)
  local envelope = ask('HGET', part_of(w.digest, 'jobs'), step)
  if not envelope then damaged(part_of(w.digest, 'jobs')) end
  -- Looked at before anything is written.
  ask('HLEN', w.held)
  s.status = CODE.queued
  save(w, step, s)
  redis.call('ZREM', ready_set(w, s.supervisor), member(step))
  redis.call('ZADD', w.running, till, member(step))
  redis.call('HSET', w.held, to_hex(string.sub(ids, 17)), step)
  redis.pcall('HDEL', w.reasons, step)
  return { step, ids, envelope }
end
