-- KEYS meta, turns, ids, vectors, fence, index
-- ARGV id, exchange, turns, config, ttl ms, life, session, sid, fence (0: none), most turns, most bytes, most sessions
-- Gives 1: it is there now; 0: another request was let in since, and nothing was written.
local meta, turns, ids, vectors, fence, index = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local id, exchange, ttl = ARGV[1], ARGV[2], tonumber(ARGV[5])
local mine = tonumber(ARGV[9])
if mine > 0 and tonumber(redis.call('GET', fence) or '0') > mine then
  return 0
end
local m = redis.call('HMGET', meta, 'life', 'first', 'next', 'turns', 'bytes')
local first, nxt, n, bytes = tonumber(m[2] or '0'), tonumber(m[3] or '0'), tonumber(m[4] or '0'), tonumber(m[5] or '0')
if not m[1] or redis.call('LLEN', turns) ~= nxt - first then
  redis.call('DEL', meta, turns, ids, vectors)
  first, nxt, n, bytes = 0, 0, 0, 0
  redis.call('HSET', meta, 'life', ARGV[6], 'session', ARGV[7])
elseif redis.call('ZSCORE', ids, id) then
  return 1
end
redis.call('RPUSH', turns, exchange)
redis.call('ZADD', ids, nxt, id)
nxt, n, bytes = nxt + 1, n + tonumber(ARGV[3]), bytes + #exchange
while nxt - first > 1 and (n > tonumber(ARGV[10]) or bytes > tonumber(ARGV[11])) do
  local old = redis.call('LPOP', turns)
  local name, count = string.match(old, '^([^\n]*)\n(%d+)\n')
  redis.call('ZREM', ids, name)
  redis.call('HDEL', vectors, first)
  first, n, bytes = first + 1, n - tonumber(count), bytes - #old
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local ms = string.format('%.0f', now)
redis.call('HSET', meta, 'first', first, 'next', nxt, 'turns', n, 'bytes', bytes, 'updated', ms)
if ARGV[4] ~= '' then
  redis.call('HSET', meta, 'config', ARGV[4])
end
for i = 1, 4 do
  redis.call('PEXPIRE', KEYS[i], ttl)
end
redis.call('ZREMRANGEBYSCORE', index, '-inf', ms)
redis.call('ZADD', index, string.format('%.0f', now + ttl), ARGV[8])
redis.call('ZREMRANGEBYRANK', index, 0, -1 - tonumber(ARGV[12]))
if redis.call('PTTL', index) < ttl then
  redis.call('PEXPIRE', index, ttl)
end
return 1
