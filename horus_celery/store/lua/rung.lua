-- Notes that a bell was rung for a queued record, which stands in that queue from now on.
local digest, at, queue = unpack(ARGV)
local had = examine(digest)
if had and had.status == 'queued' then
  local before = row(had)
  had.queue = queue
  ask('SADD', KEY.rows, row(had))
  ask('ZADD', KEY.bells .. row(had), at, digest)
  if row(had) ~= before then leave(digest, KEY.bells .. before) end
  leave(digest, KEY.due)
  note_queue(digest, had)
end
return 1
