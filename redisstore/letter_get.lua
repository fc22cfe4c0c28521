-- ARGV: ID. Returns {letter, payload, time of the redrive or 0}, or nil.
local e = entry(ARGV[2])
if not whole(ARGV[2], e) then return nil end
return {redis.call('GET', root .. 'letter:' .. ARGV[2]), redis.call('GET', root .. 'payload:' .. ARGV[2]) or '', e.redriven}
