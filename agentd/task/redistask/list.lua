-- ARGV 2 index, 3 greatest score or '+inf', 4 score of the last one before the page or '', 5 its ID, 6 limit
-- Gives {total, score, ID, names...}; one name more than limit where more follow. score and ID are those of the last name but that one.
for _ = 1, 20 do
  if sweep(100) < 100 then
    break
  end
end
local index = P .. ARGV[2]
local total = redis.call('ZCOUNT', index, '-inf', ARGV[3])
local from = 0
if ARGV[4] ~= '' then -- the place behind it, whether it is still there or not
  local mark = ARGV[5] .. '\0~'
  redis.call('ZADD', index, ARGV[4], mark)
  from = redis.call('ZRANK', index, mark)
  redis.call('ZREM', index, mark)
end
local last = math.min(from + tonumber(ARGV[6]), total - 1)
local out = {total, ARGV[4], ARGV[5]}
if last >= from then
  local found = redis.call('ZRANGE', index, from, last, 'WITHSCORES')
  for i = 1, #found, 2 do
    local id, name = string.match(found[i], '^(.*)%z(%x+)$')
    out[#out + 1] = name
    if i <= 2 * tonumber(ARGV[6]) then
      out[2], out[3] = num(found[i + 1]), id
    end
  end
end
return out
