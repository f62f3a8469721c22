-- Answers digests of held records whose lease ended before a moment.
local at, limit, lease, latest = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]

-- A held record without a lease would be held for ever: it is given one now. It lost it
-- when somebody removed the key, never to a script.
local leases, held = ask('ZCARD', KEY.leases), 0
for status in pairs(HELD) do
  local count = redis.pcall('ZCARD', KEY.by .. 'status:' .. status)
  held = held + (type(count) == 'number' and count or 0)
end
if leases < held then
  for status in pairs(HELD) do
    local set = KEY.by .. 'status:' .. status
    local function stands_here(had) return had.status == status end
    if redis.call('TYPE', set).ok == 'zset' then
      for _, digest in ipairs(digests(sift(set, '+inf', BUDGET, stands_here))) do
        redis.call('ZADD', KEY.leases, 'NX', lease, digest)
      end
    end
  end
end

-- A clock that was ahead gave them: nobody would ever see them end.
local ahead = ask('ZRANGEBYSCORE', KEY.leases, '(' .. latest, '+inf', 'LIMIT', 0, BUDGET)
for _, digest in ipairs(ahead) do redis.call('ZADD', KEY.leases, lease, digest) end

local function is_held(had) return HELD[had.status] end
return digests(sift(KEY.leases, '(' .. at, limit, is_held))
