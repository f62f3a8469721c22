-- Answers the records with a job id, each behind its digest: id, contexts (all if none).
local contexts = rest(2)
local ids, found = KEY.named .. ARGV[1], {}
local is_few = #contexts > 0 and #contexts < 1000
local digests = is_few and ask('HMGET', ids, unpack(contexts)) or ask('HVALS', ids)
for _, digest in ipairs(digests) do
  if digest and is_of(contexts, digest) then
    found[#found + 1] = { digest, read(digest) }
  end
end
return found
