-- ARGV: ID. Answers {letter, payload, when it was redriven}, or nil.
local e = entry(ARGV[2])
if not whole(ARGV[2], e) then return nil end
return {redis.call('GET', root .. 'letter:' .. ARGV[2]), redis.call('GET', root .. 'payload:' .. ARGV[2]) or '', e.redriven}
