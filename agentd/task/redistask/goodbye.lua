-- ARGV 2 who goes
redis.call('DEL', P .. 'i:' .. ARGV[2])
if redis.call('ZCARD', P .. 'k:' .. ARGV[2]) > 0 then
  redis.call('ZADD', P .. 'keepers', 0, ARGV[2])
else
  redis.call('ZREM', P .. 'keepers', ARGV[2])
end
return 'ok'
