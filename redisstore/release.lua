-- KEYS: record. ARGV: owner, window, '1' if the attempt counts.
-- Answers 1, or 0 if the lease is lost.
local r = held(ARGV[1])
if not r then
  local v = redis.call('GET', KEYS[1])
  return v and string.find(string.sub(v, 11, 29), '^[ib]' .. ARGV[1]) and 1 or 0
end
if r.state == 'B' then
  r.state = 'b'
else
  r.state = 'i'
  if ARGV[3] == '1' then r.crashed = '0' else r.attempt = r.attempt - 1 end
end
save(r, ARGV[2])
return 1
