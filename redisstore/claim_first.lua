-- KEYS: record. ARGV: '<owner><ttl> <redrives> <generation> ', window, and the
-- letter that is known to be gone, if any.
-- Returns one of:
--   a positive number: acquired, as the first attempt, with this token
--   a negative number: busy, and the lease holds for this many microseconds
--   'done', 'superseded' or 'released'
--   {'dead', letter}
--   {'running', attempt, token, first, crashed, memo}: acquired
--   {'ending', attempt, token, first, note}: acquired
--
-- Most claims are the first of their key. They end here, after two commands.
local time = redis.call('TIME')
if redis.call('SET', KEYS[1], RUNNING .. ARGV[1] .. time[1] .. ' ' .. time[2], 'PX', ARGV[2], 'NX') then
  return time[1] * 1000000 + time[2]
end
