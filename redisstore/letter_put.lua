-- ARGV: ID, kind, negated time of burial, the letter.
local id, kind = ARGV[4], ARGV[5]
forget(id)
redis.call('SET', root .. 'letter:' .. id, ARGV[7], 'PX', math.ceil(ARGV[2] / 1000))
redis.call('ZADD', all, ARGV[6], id)
redis.call('ZADD', root .. 'of:' .. kind, ARGV[6], id)
redis.call('HSET', kinds, id, kind)
trim()
return 1
