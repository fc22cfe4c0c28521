-- KEYS: record. ARGV: owner, window, memo. Returns 1, or 0 if the lease is lost.
local r = held(ARGV[1])
if not r then return 0 end
r.memo = ARGV[3]
save(r, ARGV[2])
return 1
