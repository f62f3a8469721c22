-- Answers the records with a job id, each behind its digest.
local found = {}
for _, digest in ipairs(ask('HVALS', KEY.named .. ARGV[1])) do
  found[#found + 1] = { digest, read(digest) }
end
return found
