-- What every script stands on. KEYS: the hash of a model, that of its objects, and what
-- the keys of its indexes begin with. Values are bytes that are only compared here.
local MODEL, OBJECTS, INDEXES = KEYS[1], KEYS[2], KEYS[3]
local IDS, ENTRIES, LAST
if OBJECTS then
  IDS, ENTRIES, LAST = OBJECTS .. ':ids', OBJECTS .. ':entries', OBJECTS .. ':last'
end
local LAST_ID = 4294967295

-- An id as it is ordered; `id_text` of values.py writes the same.
local function id_text(id)
  return string.format('%010d', tonumber(id))
end

local function id_of(member)
  return string.format('%d', tonumber(string.sub(member, -10)))
end

-- The key of an index; without a name, of what all objects stand in.
local function index_of(field)
  if field == '' then return IDS end
  return INDEXES .. ':' .. field
end

-- Whether the caller knows another version of the model than the one that holds.
local function is_stale(version)
  return redis.call('HGET', MODEL, 'version') ~= version
end

local function is_building(field)
  -- Word by word: to look for one long text in another may take hours.
  for word in string.gmatch(redis.call('HGET', INDEXES, 'building') or '', '%S+') do
    if word == field then return true end
  end
  return false
end

-- How many there are of what follows, each of so many words, as it stands at a place. A
-- caller may say any number, and nobody ends a script that counts for ever.
local function counted(at, size)
  local count = tonumber(ARGV[at])
  if not (count and count >= 0 and at + count * size <= #ARGV) then
    error('fewer words than they say')
  end
  return count
end

local function revision_of(record)
  return tonumber(string.match(record, '^%d+'))
end

-- Where an object stands in indexes: pairs of a field and what stands there.
local function entries_of(id)
  local packed = redis.call('HGET', ENTRIES, id)
  return packed and cmsgpack.unpack(packed) or {}
end

-- Nothing is taken back of what a script has written: so it asks every index first, which
-- ends it where somebody put something else in its place.
local function examine(entries)
  redis.call('ZCARD', IDS)
  for i = 1, #entries, 2 do
    if entries[i] ~= entries[i - 2] then redis.call('ZCARD', index_of(entries[i])) end
  end
end

local function unlist(entries)
  for i = 1, #entries, 2 do
    redis.call('ZREM', index_of(entries[i]), entries[i + 1])
  end
end

local function enlist(id, entries)
  for i = 1, #entries, 2 do
    redis.call('ZADD', index_of(entries[i]), 0, entries[i + 1])
  end
  if #entries > 0 then
    redis.call('HSET', ENTRIES, id, cmsgpack.pack(entries))
  else
    redis.call('HDEL', ENTRIES, id)
  end
end
