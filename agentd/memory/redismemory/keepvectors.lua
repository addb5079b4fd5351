-- KEYS meta, vectors
-- ARGV life, space, then numbers and vectors in turn. Those of exchanges that are gone are left out.
local m = redis.call('HMGET', KEYS[1], 'life', 'first', 'next')
if m[1] ~= ARGV[1] then
  return 0
end
if redis.call('HGET', KEYS[2], 'space') ~= ARGV[2] then
  redis.call('DEL', KEYS[2])
end
redis.call('HSET', KEYS[2], 'space', ARGV[2])
for i = 3, #ARGV, 2 do
  local n = tonumber(ARGV[i])
  if n >= tonumber(m[2]) and n < tonumber(m[3]) then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  end
end
redis.call('PEXPIRE', KEYS[2], redis.call('PTTL', KEYS[1]))
return 1
