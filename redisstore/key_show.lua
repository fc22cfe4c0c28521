-- KEYS: record. Returns nil if there is no record, {owner, life} if the work is
-- done, and otherwise {owner, life, state, redrives, generation, attempt, token,
-- first, end of the lease or 0, memo, note}. Life is the time to live of the record
-- in milliseconds; the other times are in microseconds.
local v = redis.call('GET', KEYS[1])
if not v then return nil end
local life = redis.call('PTTL', KEYS[1])
if string.find(v, '^' .. VERSION .. '%d+$') then return {string.sub(v, STATE), life} end
local r = parse(v)
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local busy = left(r, now)
return {r.owner, life, string.sub(r.state, STATE), r.redrives, r.generation, r.attempt, r.token, r.first, busy > 0 and now + busy or 0, r.memo, r.note}
