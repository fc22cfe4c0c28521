-- ARGV: index, limit, and the negated time and ID of the last letter before, or
-- '' and ''. Answers letters, one more than the limit if there are more.
sweep()
local index, limit = root .. ARGV[4], tonumber(ARGV[5])
local ids = {}
if ARGV[6] ~= '' then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', index, ARGV[6], ARGV[6])) do
    if id > ARGV[7] and #ids <= limit then ids[#ids + 1] = id end
  end
end
local from = ARGV[6] == '' and '-inf' or '(' .. ARGV[6]
if #ids <= limit then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', index, from, '+inf', 'LIMIT', 0, limit + 1 - #ids)) do ids[#ids + 1] = id end
end
local letters = {}
for _, id in ipairs(ids) do
  local letter = redis.call('GET', root .. 'letter:' .. id)
  if letter then letters[#letters + 1] = letter else forget(id) end
end
return letters
