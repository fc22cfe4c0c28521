-- The work is dead, or goes on with the next generation.
local r = parse(v)
if ARGV[3] == 'dead' then
  r.state, r.note = DEAD, ARGV[4]
else
  r.state, r.note, r.crashed, r.generation = OPENED, '', '0', r.generation + 1
  if ARGV[3] == 'next' then r.attempt = 0 end
  if ARGV[3] == 'uncounted' then r.attempt = r.attempt - 1 end
end
save(r, ARGV[2])
return 1
