-- Answers digests of records that ended before a moment, oldest first.
local before, limit = ARGV[1], tonumber(ARGV[2])

-- A record that is missing there was ended before there was this set, or while it was
-- damaged. The oldest ones are looked at: sooner or later every record is one of them.
local ended, over, LOOK = ask('ZCARD', KEY.ended), 0, 500
for status in pairs(OVER) do
  local size = redis.pcall('ZCARD', KEY.by .. 'status:' .. status)
  over = over + (type(size) == 'number' and size or 0)
end
if ended < over then
  for status in pairs(OVER) do
    local set = KEY.by .. 'status:' .. status
    if redis.call('TYPE', set).ok == 'zset' then
      for _, digest in ipairs(redis.call('ZRANGE', set, 0, LOOK - 1)) do
        local had = not redis.call('ZSCORE', KEY.ended, digest) and examine(digest)
        if had and OVER[had.status] then
          redis.call('ZADD', KEY.ended, had.ended_at, digest)
        end
      end
    end
  end
end

local function time_of(had) return OVER[had.status] and tonumber(had.ended_at) end
-- Times are whole: what ended before this moment ended by the one in front of it.
return digests(sift_by_time(KEY.ended, string.format('%d', before - 1), limit, time_of))
