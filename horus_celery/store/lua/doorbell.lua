-- How the end of a job is told to the coordinator of its workflow. In front of it the store
-- writes BELL (the pattern of bell.py), BELL_QUEUE and BELL_MOST.

local function is_digest(value)
  return type(value) == 'string' and #value == 64 and not string.find(value, '[^0-9a-f]')
end

-- Rings if a job that is over is a step of a workflow. Whoever may not write there, or
-- finds something else there, leaves it to the sweep: what became of the job counts more.
local function ring_coordinator(digest, summary)
  if not is_digest(summary.manifest) or not is_digest(digest) then return end
  local waiting = redis.pcall('LLEN', BELL_QUEUE)
  if type(waiting) ~= 'number' or waiting >= BELL_MOST then return end
  -- A job ends once, so this is no other message's.
  local id = string.gsub(redis.sha1hex(digest),
    '^(%x%x%x%x%x%x%x%x)(%x%x%x%x)(%x%x%x%x)(%x%x%x%x)(%x%x%x%x%x%x%x%x%x%x%x%x).*$',
    '%1-%2-%3-%4-%5')
  local said = { WORKFLOW = summary.manifest, JOB = '\\"' .. digest .. '\\"', ID = id }
  redis.pcall('LPUSH', BELL_QUEUE, (string.gsub(BELL, '@(%u+)@', said)))
end
