-- Answers the kind of every letter.
sweep()
return redis.call('HVALS', kinds)
