-- Notes that a bell was rung for a queued record.
local digest, at = unpack(ARGV)
local old = redis.call('HMGET', KEY.record .. digest, 'status', 'summary', 'priority')
if old[1] == 'queued' then
  redis.call('ZREM', KEY.due, digest)
  note_bell(digest, row(cjson.decode(old[2]).executor, tonumber(old[3])), at)
end
return 1
