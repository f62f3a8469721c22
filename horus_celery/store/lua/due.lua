-- Answers what is needed to ring for records whose `not_before` has passed.
local function is_queued(had) return had.status == 'queued' end
local found = {}
bells(sift(KEY.due, ARGV[1], tonumber(ARGV[2]), is_queued), found)
return found
