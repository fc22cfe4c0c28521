-- KEYS: record. ARGV: owner, window, '1' if the attempt counts.
-- Returns 1, or 0 if the lease is lost.
local r = held(ARGV[1])
if not r then
  local v = redis.call('GET', KEYS[1]) or ''
  local released = string.sub(v, 1, OWNER_END)
  return (released == IDLE .. ARGV[1] or released == PAUSED .. ARGV[1]) and 1 or 0
end
if r.state == ENDING then
  r.state = PAUSED
else
  r.state = IDLE
  if ARGV[3] == '1' then r.crashed = '0' else r.attempt = r.attempt - 1 end
end
save(r, ARGV[2])
return 1
