-- ARGV: ID, order.
local id, e = ARGV[2], entry(ARGV[2])
if not e or e.order ~= ARGV[3] or e.redriven ~= '0' then return 0 end
local all, of = indexes(e)
redis.call('ZREM', all, e.order .. id)
redis.call('ZREM', of, e.order .. id)
local time = redis.call('TIME')
e.redriven = string.format('%.0f', time[1] * 1000000 + time[2])
add(id, e)
return 1
