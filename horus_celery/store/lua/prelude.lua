-- What every script stands on. In front of it the store writes KEY (keys.py), FIELDS,
-- BUCKETS (base.py, in ms), and from the one table of transitions: NEXT[status][event], OVER
-- and HELD.

-- Nothing that a script has written is taken back when it breaks. So what may break comes
-- first (a command on a key that holds something else), and the record's hash comes last.
local function damaged(key)
  error('DAMAGED <' .. key .. '>', 0)
end

-- Answers the arguments from one on: unpack() takes no more than 8,000.
local function rest(from)
  local found = {}
  for i = from, #ARGV do found[#found + 1] = ARGV[i] end
  return found
end

-- Gives a command whose first argument is a key; ends the script if the key is not for it.
local function ask(command, key, ...)
  local answer = redis.pcall(command, key, ...)
  if type(answer) == 'table' and answer.err then
    local is_damaged = string.find(answer.err, '^-?WRONGTYPE')
      or string.find(answer.err, '^-?ERR') and not string.find(answer.err, 'ACL failure')
    if is_damaged then damaged(key) end
    -- The server has reasons of its own: it shall say them.
    redis.call(command, key, ...)
  end
  return answer
end

-- What cannot be read is answered as nothing: it stands in nobody's way.
local function read(digest)
  local values = redis.pcall('HMGET', KEY.record .. digest, unpack(FIELDS))
  return values.err and {} or values
end

local function is_name(value)
  return type(value) == 'string' and #value <= 128
    and string.find(value, '^[A-Za-z0-9][A-Za-z0-9._@:-]*$') ~= nil
end

-- A queue's name is made of two names, or it is an executor's.
local function is_queue(value)
  return type(value) == 'string' and #value <= 400
    and string.find(value, '^[A-Za-z0-9][A-Za-z0-9._@:-]*$') ~= nil
end

local function is_name_or_null(value)
  return value == cjson.null or is_name(value)
end

-- The last millisecond before the year 10000.
local MAX_MS = 253402300799999

local function is_instant(number)
  return type(number) == 'number' and number >= 0 and number <= MAX_MS and number % 1 == 0
end

local function is_whole(text)
  return type(text) == 'string' and #text <= 15 and string.find(text, '^%d+$') ~= nil
    and tonumber(text) <= MAX_MS
end

local function is_whole_or_missing(text)
  return not text or is_whole(text)
end

local function is_summary(value)
  return type(value) == 'table' and is_name(value.id) and is_name(value.context_id)
    and is_name(value.caller_id) and is_name(value.executor)
    and is_name_or_null(value.runner) and is_name_or_null(value.workflow_id)
    and is_instant(value.expires_at) and type(value.attempts) == 'number'
end

-- Answers what the scripts have to know of a record: nil if there is none, false if it
-- is damaged.
local function examine(digest)
  local old = redis.pcall('HMGET', KEY.record .. digest, 'status', 'summary', 'seq',
    'priority', 'not_before', 'attempt', 'tokens', 'created_at', 'queued_at', 'started_at',
    'ended_at', 'queue', 'ran_on', 'reason')
  if old.err then return false end
  if not old[1] then return nil end
  local is_json, summary = pcall(cjson.decode, old[2])
  local is_sound = NEXT[old[1]] and is_json and is_summary(summary) and is_whole(old[3])
    and is_whole(old[4]) and #old[4] == 1 and is_whole(old[8])
  for _, at in ipairs({ 5, 6, 9, 10, 11 }) do
    is_sound = is_sound and is_whole_or_missing(old[at])
  end
  return is_sound and {
    status = old[1],
    summary = summary,
    seq = old[3],
    executor = summary.executor,
    queue = is_queue(old[12]) and old[12] or summary.executor,
    priority = tonumber(old[4]),
    not_before = old[5],
    expires_at = summary.expires_at,
    attempt = old[6],
    tokens = old[7] or '',
    queued_at = old[9],
    started_at = old[10],
    ended_at = old[11] or old[8],
    ran_on = is_name(old[13]) and old[13],
    reason = old[14] or '',
  }
end

-- As examine(), but ends the script if the record is damaged.
local function find(digest)
  local had = examine(digest)
  if had == false then damaged(KEY.record .. digest) end
  return had
end

-- The row of bells that a queued record stands in; the same steps as keys.step().
local function row(had)
  return (had.priority - had.priority % 3) .. ':' .. had.queue
end

-- What no runner has taken yet may expire.
local EXPIRES = { created = true, queued = true }

-- Adds a digest to sorted sets, `places` being each of them before its score. If one holds
-- something else the script ends, and the digest stands in none of them.
local function enter(digest, places)
  for i = 1, #places, 2 do
    local answer = redis.pcall('ZADD', places[i], places[i + 1], digest)
    if type(answer) == 'table' then
      for j = 1, i - 2, 2 do redis.call('ZREM', places[j], digest) end
      ask('ZADD', places[i], places[i + 1], digest)
    end
  end
end

-- Tells who waits for a job that something changed; `to` is its status then, if that is
-- known. Who waits for its end is not told while it goes on.
local function wake(digest, to)
  redis.call('PUBLISH', to and not OVER[to] and KEY.changes or KEY.wakes, digest)
end

-- Tells who holds a job that he is to stop, or has it no longer.
local function recall(digest)
  redis.call('PUBLISH', KEY.recalls, digest)
end

-- In what holds something else it does not stand anyway.
local function leave(digest, set)
  redis.pcall('ZREM', set, digest)
end

-- `had`: seq, queue, priority, not_before (or false), expires_at.
local function add_queue(places, had, at)
  if had.not_before then
    places[#places + 1], places[#places + 2] = KEY.due, had.not_before
  else
    -- A row without bells is forgotten again.
    ask('SADD', KEY.rows, row(had))
    places[#places + 1], places[#places + 2] = KEY.bells .. row(had), at
  end
end

-- What is only counted or cleared away by it stops nobody when it is damaged.
local function note(digest, set, score)
  redis.pcall('ZADD', set, score, digest)
end

-- The indexes that a record stands in while it has a status.
local function indexes_by_status(summary, status)
  local index = KEY.by .. 'status:' .. status
  return { index, index .. ':' .. summary.context_id }
end

-- Moves a record to another place in the indexes; its hash is the caller's. `facts` are
-- those that come with the change.
local function move(digest, had, to, at, facts)
  local from = had.status
  local ran_on = is_name(facts.ran_on) and facts.ran_on or had.ran_on
  if from ~= to then
    local places = {}
    for _, index in ipairs(indexes_by_status(had.summary, to)) do
      places[#places + 1], places[#places + 2] = index, had.seq
    end
    if to == 'queued' then add_queue(places, had, at) end
    if EXPIRES[to] and not EXPIRES[from] then
      places[#places + 1], places[#places + 2] = KEY.expiring, had.expires_at
    end
    if HELD[to] and facts.lease then
      places[#places + 1], places[#places + 2] = KEY.leases, facts.lease
    end
    enter(digest, places)
    for _, index in ipairs(indexes_by_status(had.summary, from)) do leave(digest, index) end
  end
  if from == 'queued' then
    leave(digest, KEY.bells .. row(had))
    leave(digest, KEY.due)
  end
  if EXPIRES[from] and not EXPIRES[to] then leave(digest, KEY.expiring) end
  if HELD[from] then
    if not HELD[to] then leave(digest, KEY.leases) end
    if had.ran_on then leave(digest, KEY.held .. had.ran_on) end
  end
  if HELD[to] and ran_on then note(digest, KEY.held .. ran_on, had.seq) end
  if OVER[to] then note(digest, KEY.ended, at) end
end

-- Answers the number of a new record.
local function next_sequence()
  local seq = ask('INCR', KEY.sequence)
  if seq == 1 then
    -- The numbers may be lost while there are records: then go on behind them.
    local last = ask('ZREVRANGE', KEY.every, 0, 0, 'WITHSCORES')[2]
    if is_whole(last) then seq = redis.call('INCRBY', KEY.sequence, last) end
  end
  if seq < 1 or seq > MAX_MS then damaged(KEY.sequence) end
  return seq
end

-- Answers until when it is kept that a job was stopped for good, or false.
local function stopped_until(digest)
  return ask('ZSCORE', KEY.stopped, digest)
end

-- Notes the queue of a record in its hash, which names it only if it is not the executor's.
local function note_queue(digest, had)
  if had.queue == had.executor then
    redis.call('HDEL', KEY.record .. digest, 'queue')
  else
    redis.call('HSET', KEY.record .. digest, 'queue', had.queue)
  end
end

-- Callers name executors, and runners reasons: so many are told apart in the tally, what
-- comes later is counted without its name.
local MAX_TALLY = 10000
-- Numbers without a name are a few dozen. What has many more was filled by somebody else,
-- and would be read by everybody who asks for the metrics.
local FLOODED = 2 * MAX_TALLY

-- Adds to a number of the tally: kind, executor, rest of its name. Names hold no bar.
local function count(by, kind, executor, rest, rest_without_name)
  local field = kind .. '|' .. executor .. '|' .. rest
  local size = redis.pcall('HLEN', KEY.tally)
  if type(size) == 'number' and size > FLOODED then
    redis.call('DEL', KEY.tally)
    size = 0
  end
  if type(size) == 'number' and size >= MAX_TALLY
    and redis.call('HEXISTS', KEY.tally, field) == 0 then
    field = kind .. '||' .. (rest_without_name or rest)
  end
  redis.pcall('HINCRBY', KEY.tally, field, by)
end

local function count_time(kind, executor, from, to)
  local took = math.max(0, to - from)
  local bucket = 'more'
  for i = #BUCKETS, 1, -1 do
    if took <= BUCKETS[i] then bucket = BUCKETS[i] end
  end
  count(1, kind, executor, bucket)
  count(took, kind, executor, 'total')
end

-- Counts what a change says of waiting, running and ending.
local function tell(had, to, at, facts)
  at = tonumber(at)
  if to == 'running' and had.queued_at then
    local ready = math.max(tonumber(had.queued_at), tonumber(had.not_before or 0))
    count_time('waited', had.executor, ready, at)
  elseif OVER[to] then
    if HELD[had.status] and had.started_at then
      count_time('ran', had.executor, tonumber(had.started_at), at)
    end
    local reason = string.gsub(facts.reason or had.reason, '[^%w._:@-]', '_')
    count(1, 'ended', had.executor, to .. '|' .. string.sub(reason, 1, 64), to .. '|')
  end
end

-- The indexes that a record stays in for its whole life.
local function indexes(summary)
  local keys = {
    KEY.every,
    KEY.by .. 'context_id:' .. summary.context_id,
    KEY.by .. 'caller_id:' .. summary.caller_id,
    KEY.by .. 'executor:' .. summary.executor,
  }
  if summary.runner ~= cjson.null then
    keys[#keys + 1] = KEY.by .. 'runner:' .. summary.runner
  end
  if summary.workflow_id ~= cjson.null then
    keys[#keys + 1] = KEY.by .. 'workflow_id:' .. summary.workflow_id
  end
  return keys
end

-- Entries that one script removes before it lets others have their turn.
local BUDGET = 4000

-- Answers digest, score and record of the entries of a sorted set whose scores go up to
-- `to` and whose record is `wanted`. The others are removed: they hide nothing behind them.
local function sift(set, to, limit, wanted)
  local kept, removed = {}, 0
  repeat
    local page = ask('ZRANGEBYSCORE', set, '-inf', to, 'WITHSCORES', 'LIMIT', #kept,
      limit - #kept)
    for i = 1, #page, 2 do
      local had = examine(page[i])
      if had and wanted(had, page[i]) then
        kept[#kept + 1] = { page[i], page[i + 1], had }
      else
        redis.call('ZREM', set, page[i])
        removed = removed + 1
      end
    end
  until #page == 0 or #kept == limit or removed >= BUDGET
  return kept
end

-- As sift(), of a set whose score is a time of the record: `time_of` answers it, or nil
-- where the record has no place here. What stands there too early is put where it should.
local function sift_by_time(set, to, limit, time_of)
  local early = {}
  local found = sift(set, to, limit, function(had, digest)
    local time = time_of(had)
    if time and time > tonumber(to) then early[digest] = time end
    return time and time <= tonumber(to)
  end)
  for digest, time in pairs(early) do redis.call('ZADD', set, time, digest) end
  return found
end

local function digests(sifted)
  local found = {}
  for i, each in ipairs(sifted) do found[i] = each[1] end
  return found
end

-- Answers whether a record may be shown to whoever may see these contexts (all if none).
local function is_of(contexts, digest)
  if #contexts == 0 then return true end
  local summary = redis.pcall('HGET', KEY.record .. digest, 'summary')
  local is_json, said = pcall(cjson.decode, summary)
  if not is_json or type(said) ~= 'table' then return false end
  for _, context in ipairs(contexts) do
    if said.context_id == context then return true end
  end
  return false
end

-- Forgets a record with its log; `had` is what examine() said.
local function forget(digest, had)
  local summary = had.summary
  for _, index in ipairs(indexes(summary)) do leave(digest, index) end
  for _, index in ipairs(indexes_by_status(summary, had.status)) do leave(digest, index) end
  leave(digest, KEY.ended)
  redis.pcall('HDEL', KEY.named .. summary.id, summary.context_id)
  redis.call('DEL', KEY.record .. digest)
end

-- Adds what is needed to ring for queued records: digest, time, id, executor, runner,
-- context, queue, priority.
local function bells(sifted, into)
  for _, each in ipairs(sifted) do
    local digest, at, had = unpack(each)
    -- A time that we did not write says nothing of a bell.
    local summary, runner = had.summary, had.summary.runner
    into[#into + 1] = {
      digest, is_whole(at) and at or '0', summary.id, summary.executor,
      runner == cjson.null and '' or runner, summary.context_id, had.queue, had.priority,
    }
  end
end
