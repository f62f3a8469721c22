-- Adds chunks behind a log: token, cap, then time, stream and bytes of each.
local digest, token, cap = unpack(ARGV, 1, 3)
local key = KEY.log .. digest
-- The same chunks again: their answer got lost. A log has one writer at a time.
local last = ask('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
if last and last[2][8] == token then return 1 end
for i = 4, #ARGV, 3 do
  local entry = { 'at', ARGV[i], 'stream', ARGV[i + 1], 'data', ARGV[i + 2] }
  if i + 3 > #ARGV then entry[7], entry[8] = 'token', token end
  redis.call('XADD', key, 'MAXLEN', '~', cap, '*', unpack(entry))
end
redis.call('PUBLISH', KEY.wakes, digest)
return 1
