-- KEYS: the hash of entries, the total bytes of all letters. ARGV: the prefix of
-- the other keys.
--
-- A letter is one string, its payload another. An index is a sorted set whose
-- members all have the same score, so Redis sorts them by their bytes. A member is
-- the order of the letter, then its ID. The order has 16 digits and decreases with
-- the time of burial. A letter is in two indexes: that of its kind and that of all
-- kinds, either of the waiting letters or of the redriven ones. Its entry is
-- '<order> <bytes> <time of the redrive in microseconds, or 0> <kind>'.
local entries, total, root = KEYS[1], KEYS[2], ARGV[1]

local function entry(id)
  local order, bytes, redriven, kind = string.match(redis.call('HGET', entries, id) or '', '^(%d+) (%d+) (%d+) (.*)$')
  return order and {order = order, bytes = bytes, redriven = redriven, kind = kind}
end

-- whole reports whether both letter and payload exist: Redis may have evicted one
-- of them.
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

-- oldest returns the ID of the oldest letter of an index, other than except.
local function oldest(index, except)
  for _, member in ipairs(redis.call('ZREVRANGE', root .. index, 0, 1)) do
    local id = string.sub(member, 17)
    if id ~= except then return id end
  end
end

-- sweep removes the entries and index members of expired letters, oldest first.
-- Letters expire by themselves. One call removes a bounded number, because Redis
-- serves no other client while a script runs.
local function sweep()
  for _, index in ipairs({'waiting', 'redriven'}) do
    for _ = 1, 500 do
      local id = oldest(index)
      if not id or whole(id, entry(id)) then break end
      forget(id)
    end
  end
end
