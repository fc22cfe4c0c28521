-- ARGV: index, limit, the last member of the previous page or '', '1' for
-- payloads, max bytes. Returns the last member that was looked at, or '' if none
-- follow, and then three values for each letter: the letter, its payload, and the
-- time of its redrive or 0.
sweep()
local index, limit, last = root .. ARGV[2], tonumber(ARGV[3]), ARGV[4]
local reply, found, bytes, full = {''}, 0, 0, false
for _ = 1, 10 do -- 100 per round, as members whose letter has expired are skipped
  local from = last == '' and '-' or '(' .. last
  local members = redis.call('ZRANGEBYLEX', index, from, '+', 'LIMIT', 0, math.min(100, limit - found))
  for _, member in ipairs(members) do
    local id = string.sub(member, 17)
    local e = entry(id)
    if whole(id, e) then
      local letter = redis.call('GET', root .. 'letter:' .. id)
      bytes = bytes + (ARGV[5] == '1' and tonumber(e.bytes) or #letter)
      full = found > 0 and bytes > tonumber(ARGV[6])
      if full then break end
      found = found + 1
      reply[#reply + 1] = letter
      reply[#reply + 1] = ARGV[5] == '1' and redis.call('GET', root .. 'payload:' .. id) or ''
      reply[#reply + 1] = e.redriven
    else
      forget(id)
    end
    last = member
  end
  full = full or found == limit
  if full or #members == 0 then break end
end
if #redis.call('ZRANGEBYLEX', index, last == '' and '-' or '(' .. last, '+', 'LIMIT', 0, 1) > 0 then reply[1] = last end
return reply
