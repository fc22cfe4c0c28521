-- KEYS: record. ARGV: '<owner><ttl> <redrives> <generation> ', window, and the
-- letter that is known to be gone, if any.
-- Answers a token: acquired, the first attempt. Under 0: busy for so many
-- microseconds more. 'done', 'superseded' or 'released'. {'dead', letter}.
-- {'running', attempt, token, first, crashed, memo}. {'ending', attempt, token,
-- first, note}.
--
-- Most claims are the first of their key and end here, in two commands.
local time = redis.call('TIME')
if redis.call('SET', KEYS[1], RUNNING .. ARGV[1] .. time[1] .. ' ' .. time[2], 'PX', ARGV[2], 'NX') then
  return time[1] * 1000000 + time[2]
end
