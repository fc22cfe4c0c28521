-- The key has a record. What follows is the table of handoff.Store.
local now = time[1] * 1000000 + time[2]
local owner, ttl, redrives, generation = string.match(ARGV[1], '^(' .. string.rep('%d', OWNER_END - OWNER + 1) .. ')(%d+) (%d+) (%d+) $')
local v = redis.call('GET', KEYS[1])
if string.find(v, '^' .. VERSION .. '%d+$') then return 'done' end

local r = parse(v)
local newer = redrives - r.redrives
if newer == 0 then newer = generation - r.generation end
local mine, busy = r.owner == owner, left(r, now)
local repeated, begins = false, false
if r.state == DEAD then
  if tonumber(redrives) <= r.redrives then
    if r.note ~= ARGV[3] then return {'dead', r.note} end
    r.memo = '' -- freed
  end
  begins = true
elseif r.state == PAUSED and mine then
  return 'released'
elseif r.state == ENDING or r.state == PAUSED then
  repeated = mine
  if busy > 0 and not mine then return -busy end
  r.state = ENDING
elseif newer < 0 then
  return 'superseded'
elseif newer == 0 and mine and r.state == RUNNING then
  repeated = true
elseif newer == 0 and mine and r.state == IDLE then
  return 'released'
elseif busy > 0 then
  return -busy
elseif newer > 0 then
  begins = true
else
  if r.state == RUNNING then r.crashed = '1' end
  if r.state == OPENED and r.attempt == 0 then r.first = now end
  r.state, r.attempt = RUNNING, r.attempt + 1
end

if begins then
  r.state, r.redrives, r.generation, r.attempt, r.first, r.crashed, r.note = RUNNING, redrives, generation, 1, now, '0', ''
end
if not repeated then r.token = math.max(r.token + 1, now) end
r.owner, r.ttl, r.start = owner, ttl, now
save(r, ARGV[2])
if r.state == ENDING then return {'ending', r.attempt, r.token, r.first, r.note} end
return {'running', r.attempt, r.token, r.first, tonumber(r.crashed), r.memo}
