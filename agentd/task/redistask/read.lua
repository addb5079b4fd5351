-- ARGV 2... names
-- Gives for each {version, seq, calls, record, history, artifacts, {pieces}}, or false.
local out = {}
for i = 2, #ARGV do
  local r = redis.call('HMGET', P .. 'r:' .. ARGV[i], 'v', 's', 'c', 'h', 'm', 'a')
  if r[1] then
    r[7] = redis.call('LRANGE', P .. 'l:' .. ARGV[i], 0, -1)
    out[#out + 1] = r
  else
    out[#out + 1] = false
  end
end
return out
