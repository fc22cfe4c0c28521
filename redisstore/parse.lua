-- parse returns the fields of a record. The script fails if v is not a record of
-- this version.
local function parse(v)
  local ttl, redrives, generation, second, micro, rest = string.match(v, '^(%d+) (%d+) (%d+) (%d+) (%d+)(.*)$', FIELDS)
  if string.sub(v, 1, 1) ~= VERSION or not ttl then error('the key holds no record of this version of handoff', 0) end
  local token = second * 1000000 + tonumber(micro, 10) -- base 10, because miniredis would read 010 as octal
  local start, first, crashed, attempt, length, texts = string.match(rest, '^ (%d+) (%d+) (%d) (%d+) (%d+) (.*)$')
  length = tonumber(length or 0)
  return {
    state = string.sub(v, 1, STATE), owner = string.sub(v, OWNER, OWNER_END),
    ttl = ttl, redrives = tonumber(redrives), generation = tonumber(generation), token = token,
    start = tonumber(start or token), first = tonumber(first or token), crashed = crashed or '0', attempt = tonumber(attempt or 1),
    memo = string.sub(texts or '', 1, length), note = string.sub(texts or '', length + 1),
  }
end

local function save(r, window)
  local token = string.format('%.0f', r.token)
  redis.call('SET', KEYS[1], table.concat({
    r.state .. r.owner .. r.ttl, r.redrives, r.generation, string.sub(token, 1, 10), string.sub(token, 11),
    string.format('%.0f', r.start), string.format('%.0f', r.first), r.crashed, r.attempt, #r.memo, r.memo,
  }, ' ') .. r.note, 'PX', window)
end

-- left returns how many microseconds the lease still holds; 0 or less if it has
-- expired or was released.
local function left(r, now)
  return (r.state == RUNNING or r.state == ENDING) and r.start + r.ttl * 1000 - now or 0
end

-- held returns the record if owner has the lease, even an expired one, or else
-- nil.
local function held(owner)
  local v = redis.call('GET', KEYS[1])
  if not v or string.sub(v, OWNER, OWNER_END) ~= owner then return nil end
  local state = string.sub(v, 1, STATE)
  if state ~= RUNNING and state ~= ENDING then return nil end
  return parse(v)
end
