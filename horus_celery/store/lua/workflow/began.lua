-- Notes since when the job of a step that was handed out runs: digest, job, since when.
local digest, job, since = ARGV[1], ARGV[2], tonumber(ARGV[3])
local w = open(digest)
if not w then return 0 end
local step = tonumber(ask('HGET', w.held, job) or nil)
if not step then return 0 end
local s = state(w, step)
if s.status == CODE.queued and s.started == 0 then
  s.started = since
  save(w, step, s)
end
return 1
