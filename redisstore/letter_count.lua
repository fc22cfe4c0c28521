-- Answers the kind of every letter.
trim()
return redis.call('HVALS', kinds)
