-- KEYS run, wait, all, open, final, ends
-- ARGV id, body, engine, state is final (0, 1), it waits in a session (0, 1), created ms, expires ms, end ms,
-- a name for this very call, version
-- Gives 'ok', 'missing' or 'moved'.
local run, wait, all, open, final, ends = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local id, stop = ARGV[1], ARGV[8]
local version = redis.call('HGET', run, 'version')
if not version then
  return 'missing'
end
if version ~= ARGV[10] then -- the same call twice, by a lost connection, is done once
  return redis.call('HGET', run, 'call') == ARGV[9] and 'ok' or 'moved'
end
redis.call('HSET', run, 'version', tonumber(version) + 1, 'body', ARGV[2], 'engine', ARGV[3], 'call', ARGV[9])
if ARGV[5] == '0' and redis.call('GET', wait) == id then
  redis.call('DEL', wait)
end
redis.call('ZADD', all, '-' .. ARGV[6], id)
redis.call('ZADD', ends, stop, id)
if ARGV[4] == '1' then
  redis.call('ZREM', open, id)
  redis.call('ZADD', final, ARGV[6], id)
else
  redis.call('ZADD', open, ARGV[7], id)
end
local t = redis.call('TIME')
local left = tonumber(stop) - (t[1] * 1000 + math.floor(t[2] / 1000))
redis.call('PEXPIREAT', run, stop)
if ARGV[5] == '1' then
  redis.call('PEXPIREAT', wait, stop)
end
for i = 3, 6 do
  if redis.call('PTTL', KEYS[i]) < left then
    redis.call('PEXPIREAT', KEYS[i], stop)
  end
end
return 'ok'
