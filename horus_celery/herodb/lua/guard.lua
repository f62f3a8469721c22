-- Does a command, if it does not go through too much. KEYS: its keys. ARGV: the most items
-- and the most bytes; how many words follow that tell how many items it goes through (0:
-- all that its keys hold); those; the command.
local most_items, most_bytes, telling = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local command = { unpack(ARGV, 4 + telling) }
local LENGTHS = { list = 'LLEN', set = 'SCARD', zset = 'ZCARD', hash = 'HLEN', stream = 'XLEN' }
local items, bytes = 0, 0

if telling > 0 then
  items = redis.pcall(unpack(ARGV, 4, 3 + telling))
  if type(items) == 'table' then return items end
elseif command[1] == 'HMGET' then
  for i = 3, #command do
    local length = redis.pcall('HSTRLEN', KEYS[1], command[i])
    if type(length) == 'table' then return length end
    bytes = bytes + length
  end
else
  for _, key in ipairs(KEYS) do
    local length = LENGTHS[redis.call('TYPE', key).ok]
    items = items + (length and redis.call(length, key) or 1)
    -- Counted first, as to weigh them looks at each.
    if items > most_items then break end
    bytes = bytes + (redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 0) or 0)
    if bytes > most_bytes then break end
  end
end

local function refusal(most, what)
  local text = 'ERR more than %d %s to go through: take it in parts'
  return redis.error_reply(string.format(text, most, what))
end
if items > most_items then return refusal(most_items, 'items') end
if bytes > most_bytes then return refusal(most_bytes, 'bytes') end
return redis.pcall(unpack(command))
