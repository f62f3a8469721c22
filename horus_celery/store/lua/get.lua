-- Answers a record, or nothing if it has none of the contexts: digest, contexts.
local digest = ARGV[1]
if not is_of(rest(2), digest) then return {} end
return ask('HMGET', KEY.record .. digest, unpack(FIELDS))
