-- Answers where the next page begins, and digests of stopped jobs behind a place, in the
-- order in which the stops came: place, how many.
local after, limit = ARGV[1], ARGV[2]
local last = ask('ZREVRANGE', KEY.stops, 0, 0, 'WITHSCORES')[2]
-- What was read last is gone. Whatever took its place may have an earlier one.
if not last or tonumber(last) < tonumber(after) then after = '-inf' end

local found = {}
local page = ask('ZRANGEBYSCORE', KEY.stops, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0,
  limit)
for i = 1, #page, 2 do found[#found + 1], after = page[i], page[i + 1] end
return { after, found }
