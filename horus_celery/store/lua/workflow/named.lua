-- Answers digest and head of the workflows of an id: id, contexts (all if none).
local contexts, found = rest(2), {}
local ids = ask('HGETALL', KEY.workflow_named .. ARGV[1])
for i = 1, #ids, 2 do
  local is_seen = #contexts == 0
  for _, context in ipairs(contexts) do is_seen = is_seen or context == ids[i] end
  if is_seen then found[#found + 1] = { ids[i + 1], head_of(ids[i + 1]) } end
end
return found
