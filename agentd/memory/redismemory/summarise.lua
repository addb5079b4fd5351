-- KEYS meta
-- ARGV life, the old summary, until and failed, the new ones. Gives 0 where they aren't the old ones any more.
local m = redis.call('HMGET', KEYS[1], 'life', 'summary', 'until', 'failed')
if not m[1] or m[1] ~= ARGV[1] or (m[2] or '') ~= ARGV[2] or (m[3] or '0') ~= ARGV[3] or (m[4] or '0') ~= ARGV[4] then
  return 0
end
redis.call('HSET', KEYS[1], 'summary', ARGV[5], 'until', ARGV[6], 'failed', ARGV[7])
return 1
