-- Answers workflows in which something is to be done by a moment: at, how many.
local at, limit = ARGV[1], ARGV[2]

-- Each that runs stands there. One that does not lost its place when somebody removed it,
-- never to a script.
local running = KEY.workflow_by .. 'status:running'
local count = redis.pcall('ZCARD', running)
if type(count) == 'number' and ask('ZCARD', KEY.workflow_due) < count then
  for _, digest in ipairs(redis.call('ZRANGE', running, 0, EDGES - 1)) do
    local is_sound, w = pcall(open, digest)
    if is_sound and (not w or w.status ~= 'running') then
      leave(digest, running)
    else
      redis.call('ZADD', KEY.workflow_due, 'NX', at, digest)
    end
  end
end
hurry(KEY.workflow_due, at)
return ask('ZRANGEBYSCORE', KEY.workflow_due, '-inf', at, 'LIMIT', 0, limit)
