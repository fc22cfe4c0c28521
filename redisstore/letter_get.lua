-- ARGV: ID. Answers {letter, payload, when it was redriven}, or nil.
local e = entry(ARGV[2])
local letter = e and redis.call('GET', root .. 'letter:' .. ARGV[2])
if not letter then return nil end
return {letter, redis.call('GET', root .. 'payload:' .. ARGV[2]) or '', e.redriven}
