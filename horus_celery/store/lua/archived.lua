-- Answers what is kept of retired records: digest and fields of each. ARGV: a job id or a
-- digest, then the contexts that may be seen (all if none).
local name, contexts = ARGV[1], rest(2)

local found = {}
local function add(digest)
  local key = KEY.receipt .. digest
  local context = redis.pcall('HGET', key, 'context_id')
  if type(context) ~= 'string' then return end
  for _, seen in ipairs(#contexts > 0 and contexts or { context }) do
    if seen == context then found[#found + 1] = { digest, redis.call('HGETALL', key) } end
  end
end

for _, digest in ipairs(ask('HKEYS', KEY.receipts .. name)) do add(digest) end
add(name)
return found
