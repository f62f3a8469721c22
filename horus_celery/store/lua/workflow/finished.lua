-- Answers workflows that ended before a moment, oldest first: at, how many. What stands
-- there and did not end is removed: it hides nothing behind it.
local limit = tonumber(ARGV[2])

local function has_ended(digest)
  local is_sound, w = pcall(open, digest)
  return is_sound and w and OVER_OF_WORKFLOW[w.status]
end

local found, looked = {}, 0
repeat
  local page = ask('ZRANGEBYSCORE', KEY.workflow_ended, '-inf', '(' .. ARGV[1], 'LIMIT',
    #found, limit - #found)
  for _, digest in ipairs(page) do
    if has_ended(digest) then
      found[#found + 1] = digest
    else
      leave(digest, KEY.workflow_ended)
    end
  end
  looked = looked + #page
until #page == 0 or #found == limit or looked >= EDGES
return found
