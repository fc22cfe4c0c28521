-- KEYS: record. ARGV: owner, window; then nothing if the work is done, or 'next',
-- or 'continued' or 'uncounted', or 'dead' and the letter.
-- Returns 1, or 0 if the lease is lost.
--
-- Most work is done. Its completion ends here, without parsing the record.
local v = redis.call('GET', KEYS[1])
if not v then return 0 end
if (string.byte(v, STATE) or 0) < 58 then -- a digit
  return v == VERSION .. ARGV[1] and 1 or 0
end
local state = string.sub(v, 1, STATE)
if string.sub(v, OWNER, OWNER_END) ~= ARGV[1] then return 0 end
if state == OPENED or state == DEAD then return 1 end -- a repeat
if state ~= RUNNING and state ~= ENDING then return 0 end
if not ARGV[3] then
  redis.call('SET', KEYS[1], VERSION .. ARGV[1], 'PX', ARGV[2])
  return 1
end
