-- KEYS: record. Frees the key and returns 0, or returns how many microseconds the
-- lease still holds. A record of another version is freed too.
local v = redis.call('GET', KEYS[1])
if v and string.find(v, '^' .. VERSION .. '%a') then
  local time = redis.call('TIME')
  local busy = left(parse(v), time[1] * 1000000 + time[2])
  if busy > 0 then return busy end
end
redis.call('DEL', KEYS[1])
return 0
