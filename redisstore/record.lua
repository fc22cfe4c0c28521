-- A record is one string. It begins with the second of the latest fencing
-- token, in ten digits, and a letter for its state:
--
--   R running   i idle   B burying   b burying, the lease given up
--
--   <second>R<owner> <ttl> <generation> <microsecond>
--   <second>R<owner> <ttl> <generation> <microsecond> <start> <first> <crashed> <attempt>
--   <second>B<owner> <ttl> <generation> <microsecond> <start> <first> <crashed> <attempt> <note>
--
-- The short form is a first attempt, begun and first claimed at its token.
-- Times are microseconds. A digit in place of the letter is a finished record:
-- the mark of who completed it, then the generation unless it is 0. Without
-- one it is an integer to Redis, which keeps it in the fewest bytes.
local function parse(v)
  local second, state, owner, ttl, generation, micro, rest = string.match(v, '^(%d+)(%a)(%d+) (%d+) (%d+) (%d+)(.*)$')
  local token = second * 1000000 + tonumber(micro, 10) -- the Lua of miniredis takes 010 for eight
  local start, first, crashed, attempt, note = string.match(rest, '^ (%d+) (%d+) (%d) (%d+)(.*)$')
  return {
    state = state, owner = owner, ttl = ttl, generation = generation, token = token,
    start = tonumber(start or token), first = tonumber(first or token),
    crashed = crashed or '0', attempt = tonumber(attempt or 1), note = note or '',
  }
end

local function save(r, window)
  local token = string.format('%.0f', r.token)
  redis.call('SET', KEYS[1], table.concat({
    string.sub(token, 1, 10) .. r.state .. r.owner, r.ttl, r.generation, string.sub(token, 11),
    string.format('%.0f', r.start), string.format('%.0f', r.first), r.crashed, r.attempt,
  }, ' ') .. r.note, 'PX', window)
end

-- held returns the record if the owner holds its lease.
local function held(owner)
  local v = redis.call('GET', KEYS[1])
  if not v or string.sub(v, 12, 29) ~= owner then return nil end
  local state = string.sub(v, 11, 11)
  if state ~= 'R' and state ~= 'B' then return nil end
  return parse(v)
end
