-- Notes ends, then hands out steps that may start: digest, at, how many at most, until when,
-- the number of the supervisor, how many bytes at most, then the ends. Answers steps (step,
-- ids, envelope), whether there is more to do at once, the numbers of other supervisors that
-- wait, how many others there are, and the steps that canvas goes on from.
local digest, at, limit, till = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local supervisor, room = tonumber(ARGV[5]), tonumber(ARGV[6])
put_off(digest, till)
local w = open(digest)
if not w or w.status ~= 'running' then return { {}, 0, {}, 0, {} } end

local done = note_ends(w, 7)
if not w.stop_at then spread(w, at) end
local handed, ready = {}, ready_set(w, supervisor)
if w.max_parallel > 0 then
  limit = math.min(limit, w.max_parallel - ask('ZCARD', w.running))
end
if limit > 0 and not w.stop_at then
  for _, one in ipairs(ask('ZRANGEBYSCORE', ready, '-inf', at, 'LIMIT', 0, limit)) do
    if room <= 0 then break end
    local step = tonumber(one)
    local step_handed = hand_out(w, step, state(w, step), till)
    handed[#handed + 1] = step_handed
    room = room - #step_handed[3]
  end
  -- A message was lost: what it was to bring goes by reference from now on.
  if w.is_by_canvas and #handed > 0 then
    w.is_by_canvas = false
    redis.call('HDEL', w.head, 'strategy')
  end
end
close(w, at)

local has_more = w.status == 'running' and has_work_left(w)
local waiting = {}
local is_full = w.max_parallel > 0 and ask('ZCARD', w.running) >= w.max_parallel
if not is_full and not w.stop_at then
  for other = 0, w.supervisors do
    local first = ask('ZRANGE', ready_set(w, other), 0, 0, 'WITHSCORES')[2]
    if first and tonumber(first) <= tonumber(at) then
      if other == supervisor then has_more = true else waiting[#waiting + 1] = other end
    end
  end
end
return { handed, has_more and 1 or 0, waiting, w.supervisors, done }
