-- ARGV: ID, kind, order, letter, payload, time to live in milliseconds, max count,
-- max bytes.
local id, life = ARGV[2], ARGV[7]
local count, bytes = tonumber(ARGV[8]), tonumber(ARGV[9])
local old = entry(id)
local redriven = old and old.order == ARGV[4] and old.redriven or '0'
forget(id)
local size = #ARGV[5] + #ARGV[6]
redis.call('SET', root .. 'letter:' .. id, ARGV[5], 'PX', life)
if ARGV[6] ~= '' then redis.call('SET', root .. 'payload:' .. id, ARGV[6], 'PX', life) end
add(id, {order = ARGV[4], bytes = size, redriven = redriven, kind = ARGV[3]})
redis.call('INCRBY', total, size)
sweep()
for _ = 1, 1000 do
  if redis.call('HLEN', entries) <= count and tonumber(redis.call('GET', total) or 0) <= bytes then break end
  local last = oldest('redriven', id) or oldest('waiting', id)
  if not last then break end
  forget(last)
end
return 1
