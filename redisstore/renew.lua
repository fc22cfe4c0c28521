-- KEYS: record. ARGV: owner, window, ttl. Answers 1 if the lease is held.
local r = held(ARGV[1])
if not r then return 0 end
local time = redis.call('TIME')
r.start, r.ttl = time[1] * 1000000 + time[2], ARGV[3]
save(r, ARGV[2])
return 1
