-- The key has a record.
local now = time[1] * 1000000 + time[2]
local owner, ttl, generation = string.match(ARGV[1], '^R(%d+) (%d+) (%d+) ')
local v = redis.call('GET', KEYS[1])
local r
if string.find(v, '^%d+$') then
  if tonumber(generation) <= (tonumber(string.sub(v, 20)) or 0) then return 0 end
  r = {state = 'i', owner = '', ttl = 0, generation = -1, token = string.sub(v, 1, 10) * 1000000 + 999999, start = 0}
else
  r = parse(v)
end

local newer = tonumber(generation) - tonumber(r.generation)
if newer < 0 then return 0 end
local leased = r.state == 'R' or r.state == 'B'
if not (leased and r.owner == owner and newer == 0) then
  local left = leased and r.start + r.ttl - now or 0
  if left > 0 then return -left end
  if newer > 0 then
    r.state, r.attempt, r.first, r.crashed, r.note = 'R', 1, now, '0', ''
  elseif r.state == 'B' or r.state == 'b' then
    r.state = 'B'
  else
    if r.state == 'R' then r.crashed = '1' end
    r.state, r.attempt = 'R', r.attempt + 1
  end
  r.token = math.max(r.token + 1, now)
end
r.owner, r.ttl, r.generation, r.start = owner, ttl, generation, now
save(r, ARGV[2])
return {r.state, r.attempt, r.token, r.first, tonumber(r.crashed), string.sub(r.note, 2)}
