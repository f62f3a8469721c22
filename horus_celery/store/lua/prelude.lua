-- What every script stands on. In front of it the store writes KEY (keys.py), FIELDS,
-- and from the one table of transitions: NEXT[status][event], OVER and HELD.

local function read(digest)
  return redis.call('HMGET', KEY.record .. digest, unpack(FIELDS))
end

-- The row of bells that a queued record stands in; the same steps as keys.step().
local function row(executor, priority)
  return (priority - priority % 3) .. ':' .. executor
end

local function note_bell(digest, in_row, at)
  redis.call('ZADD', KEY.bells .. in_row, at, digest)
  redis.call('SADD', KEY.rows, in_row)
end

-- What no runner has taken yet may expire.
local EXPIRES = { created = true, queued = true }

-- `had`: seq, executor, priority, not_before (or false), expires_at.
local function enter_queue(digest, had, at)
  if had.not_before then
    redis.call('ZADD', KEY.due, had.not_before, digest)
  else
    note_bell(digest, row(had.executor, had.priority), at)
  end
end

local function leave_queue(digest, had)
  redis.call('ZREM', KEY.bells .. row(had.executor, had.priority), digest)
  redis.call('ZREM', KEY.due, digest)
end

-- Moves a record to another place in the indexes; its hash is the caller's.
local function move(digest, had, from, to, at)
  if from == to then return end
  redis.call('ZREM', KEY.by .. 'status:' .. from, digest)
  redis.call('ZADD', KEY.by .. 'status:' .. to, had.seq, digest)
  if from == 'queued' then leave_queue(digest, had) end
  if to == 'queued' then enter_queue(digest, had, at) end
  if EXPIRES[to] then redis.call('ZADD', KEY.expiring, had.expires_at, digest)
  elseif EXPIRES[from] then redis.call('ZREM', KEY.expiring, digest) end
  if HELD[from] and not HELD[to] then redis.call('ZREM', KEY.leases, digest) end
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

-- What is needed to ring for the digests in a sorted set whose scores go up to `to`.
local function bells(set, to, limit, into)
  local found = redis.call('ZRANGEBYSCORE', set, '-inf', to, 'WITHSCORES', 'LIMIT', 0, limit)
  for i = 1, #found, 2 do
    local had = redis.call('HMGET', KEY.record .. found[i], 'summary', 'priority')
    if had[1] then
      into[#into + 1] = { found[i], found[i + 1], had[1], had[2] }
    else
      redis.call('ZREM', set, found[i])
    end
  end
end
