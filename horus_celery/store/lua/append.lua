-- Adds chunks behind a log: token, cap, then the chunks. The last one names the token.
local digest, token, cap = unpack(ARGV, 1, 3)
local key = KEY.log .. digest
-- The same chunks again: their answer got lost. A log has one writer at a time.
local last = ask('LINDEX', key, -1)
if last and string.match(last, '^%a%d+ (%S*) ') == token then return 1 end
if ask('LLEN', key) < tonumber(cap) then redis.call('RPUSH', key, unpack(ARGV, 4)) end
wake(digest, 'running')
return 1
