-- ARGV: index, limit, the last member of the page before or '', '1' for
-- payloads, greatest number of bytes. Answers the last member that was looked at,
-- or '' if none follow it, and a letter, a payload and when it was redriven for
-- each.
sweep()
local index, limit, last = root .. ARGV[2], tonumber(ARGV[3]), ARGV[4]
local answer, found, bytes, full = {''}, 0, 0, false
for _ = 1, 10 do -- 100 a round: letters that are gone leave holes
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
      answer[#answer + 1] = letter
      answer[#answer + 1] = ARGV[5] == '1' and redis.call('GET', root .. 'payload:' .. id) or ''
      answer[#answer + 1] = e.redriven
    else
      forget(id)
    end
    last = member
  end
  full = full or found == limit
  if full or #members == 0 then break end
end
if #redis.call('ZRANGEBYLEX', index, last == '' and '-' or '(' .. last, '+', 'LIMIT', 0, 1) > 0 then answer[1] = last end
return answer
