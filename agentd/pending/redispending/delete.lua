-- KEYS run, wait, all, open, final, ends
-- ARGV id
redis.call('DEL', KEYS[1])
if redis.call('GET', KEYS[2]) == ARGV[1] then
  redis.call('DEL', KEYS[2])
end
for i = 3, 6 do
  redis.call('ZREM', KEYS[i], ARGV[1])
end
return 'ok'
