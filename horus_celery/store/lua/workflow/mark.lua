-- Marks a member, once: digest, mark, member. Answers how many have that mark then; 0 if it
-- had it already, or if the workflow does not run by canvas now.
local digest, mark, member_of = ARGV[1], ARGV[2], ARGV[3]
local w = open(digest)
if not w or w.status ~= 'running' or not w.is_by_canvas then return 0 end
local marks, one = part_of(digest, 'marks'), mark .. ':' .. member_of
if ask('HEXISTS', marks, one) == 1 then return 0 end
redis.call('HSET', marks, one, 1)
return redis.call('HINCRBY', marks, mark, 1)
