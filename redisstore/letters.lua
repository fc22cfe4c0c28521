-- KEYS: the entry of each letter, the bytes of all. ARGV: root of the other
-- keys.
--
-- A letter is a string, and its payload another. An index is a sorted set whose
-- members have one score, so that Redis sorts them by their bytes: the order of
-- the letter, 16 digits which fall with the time of its burial, then its ID. A
-- letter is in two: those that wait or were redriven, of its kind and of all.
-- Its entry is '<order> <bytes> <microsecond that it was redriven, or 0> <kind>'.
local entries, total, root = KEYS[1], KEYS[2], ARGV[1]

local function entry(id)
  local order, bytes, redriven, kind = string.match(redis.call('HGET', entries, id) or '', '^(%d+) (%d+) (%d+) (.*)$')
  return order and {order = order, bytes = bytes, redriven = redriven, kind = kind}
end

-- whole reports whether letter and payload are there: Redis may have let one of
-- them go.
local function whole(id, e)
  if not e then return false end
  local bytes = redis.call('STRLEN', root .. 'letter:' .. id) + redis.call('STRLEN', root .. 'payload:' .. id)
  return bytes == tonumber(e.bytes)
end

local function indexes(e)
  local index = root .. (e.redriven == '0' and 'waiting' or 'redriven')
  return index, index .. ':' .. e.kind
end

local function add(id, e)
  local all, of = indexes(e)
  redis.call('ZADD', all, 0, e.order .. id)
  redis.call('ZADD', of, 0, e.order .. id)
  redis.call('HSET', entries, id, table.concat({e.order, e.bytes, e.redriven, e.kind}, ' '))
end

local function forget(id)
  local e = entry(id)
  if not e then return end
  local all, of = indexes(e)
  redis.call('ZREM', all, e.order .. id)
  redis.call('ZREM', of, e.order .. id)
  redis.call('HDEL', entries, id)
  redis.call('DEL', root .. 'letter:' .. id, root .. 'payload:' .. id)
  if redis.call('DECRBY', total, e.bytes) <= 0 then redis.call('DEL', total) end
end

-- oldest returns the ID of the last letter of an index that is not the one given.
local function oldest(index, except)
  for _, member in ipairs(redis.call('ZREVRANGE', root .. index, 0, 1)) do
    local id = string.sub(member, 17)
    if id ~= except then return id end
  end
end

-- Letters expire by themselves. What points to them goes here, oldest first;
-- what one call removes is bounded, since Redis serves nobody else meanwhile.
local function sweep()
  for _, index in ipairs({'waiting', 'redriven'}) do
    for _ = 1, 500 do
      local id = oldest(index)
      if not id or whole(id, entry(id)) then break end
      forget(id)
    end
  end
end
