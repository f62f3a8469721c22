-- Answers the head of a workflow, nothing if there is none: digest.
local found = head_of(ARGV[1])
return found[1] and found or {}
