-- Keeps jobs of steps: digest, then step, ids and envelope of each. Answers 'done' and how
-- many are missing, 'missing', or 'other' and the first step that has another job.
local w = open(ARGV[1])
if not w then return { 'missing' } end
local ids, jobs = part_of(w.digest, 'ids'), part_of(w.digest, 'jobs')
local NONE = string.rep('\0', 48)

local new = {}
for i = 2, #ARGV, 3 do
  local step = tonumber(ARGV[i])
  local had = ask('GETRANGE', ids, step * 48, step * 48 + 47)
  if had == '' or had == NONE then
    new[#new + 1] = i
  elseif had ~= ARGV[i + 1] then
    return { 'other', step }
  end
end
for _, i in ipairs(new) do
  local step = tonumber(ARGV[i])
  ask('HSET', jobs, step, ARGV[i + 2])
  redis.call('SETRANGE', ids, step * 48, ARGV[i + 1])
end
local missing = w.missing - #new
redis.call('HSET', w.head, 'missing', missing)
return { 'done', missing }
