-- Answers the records with a job id, each behind its digest: id, contexts (all if none).
local contexts = { unpack(ARGV, 2) }
local ids, found = KEY.named .. ARGV[1], {}
local digests = #contexts == 0 and ask('HVALS', ids) or ask('HMGET', ids, unpack(contexts))
for _, digest in ipairs(digests) do
  if digest and is_of(contexts, digest) then
    found[#found + 1] = { digest, read(digest) }
  end
end
return found
