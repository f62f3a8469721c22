-- Answers what is needed to ring for records whose `not_before` has passed.
local found = {}
bells(KEY.due, ARGV[1], ARGV[2], found)
return found
