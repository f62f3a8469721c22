-- Answers digests of records that nobody took before they expired.
local function time_of(had) return EXPIRES[had.status] and had.expires_at end
return digests(sift_by_time(KEY.expiring, ARGV[1], tonumber(ARGV[2]), time_of))
