-- Notes that a bell was rung for a queued record.
local digest, at = unpack(ARGV)
local had = examine(digest)
if had and had.status == 'queued' then
  ask('SADD', KEY.rows, row(had))
  ask('ZADD', KEY.bells .. row(had), at, digest)
  leave(digest, KEY.due)
end
return 1
