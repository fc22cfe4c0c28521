-- ARGV: the last member of the previous call, or ''. Returns the last member that
-- was counted, or '' if none follow, and then the kind of each letter that was not
-- redriven.
local reply = {''}
local members = redis.call('ZRANGEBYLEX', root .. 'waiting', ARGV[2] == '' and '-' or '(' .. ARGV[2], '+', 'LIMIT', 0, 1000)
for _, member in ipairs(members) do
  local id = string.sub(member, 17)
  local e = entry(id)
  if whole(id, e) then
    reply[#reply + 1] = e.kind
  else
    forget(id)
  end
end
if #members == 1000 then reply[1] = members[1000] end
return reply
