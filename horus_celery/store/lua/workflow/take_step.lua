-- Hands out one step of a workflow that runs by canvas: digest, step, at, until when. Answers
-- step, ids and envelope; nothing if it may not start now.
local digest, step, at, till = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local w = open(digest)
if not w or w.status ~= 'running' or w.stop_at or not w.is_by_canvas then return {} end
if step >= w.steps then return {} end
spread(w, at)
local s, handed = state(w, step), {}
if s.status == CODE.ready then handed = hand_out(w, step, s, till) end
close(w, at)
return handed
