-- ARGV 2 who lives, 3 how many it wants to be told of, 4 ms after which others are silent, 5... tasks that it was told of
-- Gives {{tasks that others made terminal}, {silent keeper, when it was heard of, ...}}.
local self = ARGV[2]
redis.call('ZADD', P .. 'keepers', num(now), self)
outlast(P .. 'keepers', now + HOUR)
for i = 5, #ARGV do
  redis.call('ZREM', P .. 'i:' .. self, ARGV[i])
end
sweep(100)
if redis.call('EXISTS', P .. 'ev') == 1 then
  outlast(P .. 'ev', now + HOUR)
end
local told = {}
if tonumber(ARGV[3]) > 0 then
  told = redis.call('ZRANGE', P .. 'i:' .. self, 0, tonumber(ARGV[3]) - 1)
end
local silent = redis.call('ZRANGEBYSCORE', P .. 'keepers', '-inf', num(now - tonumber(ARGV[4])), 'WITHSCORES', 'LIMIT', 0, 1000)
for i = 1, #silent, 2 do
  if tonumber(silent[i + 1]) < now - 60000 and redis.call('ZCARD', P .. 'k:' .. silent[i]) == 0 then
    redis.call('ZREM', P .. 'keepers', silent[i])
  end
end
return {told, silent}
