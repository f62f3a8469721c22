-- Answers how many records a queued one has before it in its queue, and whether that is
-- all of them: digest, how many are looked at, contexts (all if none).
local digest, looks, contexts = ARGV[1], tonumber(ARGV[2]), rest(3)
local had = examine(digest)
if not had or had.status ~= 'queued' then return { 0, 1 } end

local count, own = 0, had.priority - had.priority % 3
for step = 0, own, 3 do
  local set = KEY.bells .. step .. ':' .. had.queue
  local before = {}
  if redis.call('TYPE', set).ok == 'zset' then
    before = redis.call('ZRANGE', set, 0, looks - 1)
  end
  for _, other in ipairs(before) do
    if step == own and other == digest then return { count, 1 } end
    looks = looks - 1
    if is_of(contexts, other) then count = count + 1 end
  end
  if looks < 1 then return { count, 0 } end
end
return { count, 1 }
