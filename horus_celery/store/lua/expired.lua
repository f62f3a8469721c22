-- Answers digests of records that nobody took before they expired.
local at, early = tonumber(ARGV[1]), {}
local function has_expired(had, digest)
  local may_expire = EXPIRES[had.status]
  if may_expire and had.expires_at > at then early[digest] = had.expires_at end
  return may_expire and had.expires_at <= at
end
local found = digests(sift(KEY.expiring, ARGV[1], tonumber(ARGV[2]), has_expired))
-- What stood there too early is put where its record says.
for digest, expires_at in pairs(early) do
  redis.call('ZADD', KEY.expiring, expires_at, digest)
end
return found
