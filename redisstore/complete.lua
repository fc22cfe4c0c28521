-- KEYS: record. ARGV: owner, window, mark and generation of a finished record.
-- Answers 1, or 0 if the lease is lost.
local v = redis.call('GET', KEYS[1])
if not v then return 0 end
local state = string.byte(v, 11)
if state < 58 then -- a digit: finished, and 1 if by this owner
  return string.sub(v, 11) == ARGV[3] and 1 or 0
end
if state > 90 or string.sub(v, 12, 29) ~= ARGV[1] then return 0 end -- over 90: a small letter
redis.call('SET', KEYS[1], string.sub(v, 1, 10) .. ARGV[3], 'PX', ARGV[2])
return 1
