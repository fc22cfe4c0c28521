-- KEYS: record. ARGV: 'R<owner> <ttl> <generation> ', window.
-- Answers a token: acquired, the first attempt. 0: done. Under 0: busy for so
-- many microseconds more. Else {state, attempt, token, first, crashed, note}.
--
-- Most claims are the first of their key and end here, in two commands.
local time = redis.call('TIME')
if redis.call('SET', KEYS[1], time[1] .. ARGV[1] .. time[2], 'PX', ARGV[2], 'NX') then
  return time[1] * 1000000 + time[2]
end
