-- KEYS: record. ARGV: owner, window, ttl. Returns 1, or 0 if the
-- lease is lost.
local r = held(ARGV[1])
if not r then return 0 end
local time = redis.call('TIME')
r.start, r.ttl = time[1] * 1000000 + time[2], ARGV[3]
save(r, ARGV[2])
return 1
