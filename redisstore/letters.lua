-- KEYS: index of all letters, kind of each letter. ARGV: root of the other
-- keys, oldest age in µs, greatest number.
--
-- An index is a sorted set of letter IDs by the negated time of burial, so that
-- the newest come first and those of one time in the order of their IDs.
local all, kinds, root = KEYS[1], KEYS[2], ARGV[1]

local function forget(id)
  local kind = redis.call('HGET', kinds, id)
  if kind then
    redis.call('ZREM', root .. 'of:' .. kind, id)
    redis.call('HDEL', kinds, id)
  end
  redis.call('ZREM', all, id)
  redis.call('DEL', root .. 'letter:' .. id)
end

-- Letters expire by themselves. What points to them goes here, oldest first;
-- what one call removes is bounded, since Redis serves nobody else meanwhile.
local function sweep()
  for _ = 1, 1000 do
    local id = redis.call('ZREVRANGE', all, 0, 0)[1]
    if not id or redis.call('EXISTS', root .. 'letter:' .. id) == 1 then return end
    forget(id)
  end
end

-- Only who puts letters says how many are kept, and for how long.
local function trim()
  local now = redis.call('TIME')
  local oldest = now[1] * 1000000 + now[2] - ARGV[2]
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', all, '(' .. string.format('%.0f', -oldest), '+inf', 'LIMIT', 0, 1000)) do
    forget(id)
  end
  local over = redis.call('ZCARD', all) - ARGV[3]
  if over > 0 then
    for _, id in ipairs(redis.call('ZREVRANGE', all, 0, math.min(over, 1000) - 1)) do forget(id) end
  end
end

