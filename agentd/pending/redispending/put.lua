-- KEYS run, wait, all, open, final, ends
-- ARGV id, body, engine, state is final (0, 1), it waits in a session (0, 1), created ms, expires ms, end ms,
-- a name for this very call, most runs, prefix of runs
-- Gives 'ok', 'exists', 'full', or the ID of the run that waits in the session already.
local run, wait, all, open, final, ends = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local id, stop = ARGV[1], ARGV[8]
local t = redis.call('TIME')
local now = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', now)) do
  redis.call('ZREM', all, gone)
  redis.call('ZREM', open, gone)
  redis.call('ZREM', final, gone)
  redis.call('ZREM', ends, gone)
  redis.call('DEL', ARGV[11] .. gone)
end
if redis.call('EXISTS', run) == 1 then -- the same call twice, by a lost connection, is done once
  return redis.call('HGET', run, 'call') == ARGV[9] and 'ok' or 'exists'
end
if ARGV[5] == '1' then
  local other = redis.call('GET', wait)
  if other and redis.call('EXISTS', ARGV[11] .. other) == 1 then
    return other
  end
end
if tonumber(stop) <= tonumber(now) then
  return 'ok'
end
while redis.call('ZCARD', all) >= tonumber(ARGV[10]) do
  local old = redis.call('ZRANGE', final, 0, 0)[1]
  if not old then
    return 'full'
  end
  redis.call('ZREM', all, old)
  redis.call('ZREM', final, old)
  redis.call('ZREM', ends, old)
  redis.call('DEL', ARGV[11] .. old)
end
redis.call('HSET', run, 'version', 1, 'body', ARGV[2], 'engine', ARGV[3], 'call', ARGV[9])
redis.call('PEXPIREAT', run, stop)
redis.call('ZADD', all, '-' .. ARGV[6], id)
redis.call('ZADD', ends, stop, id)
if ARGV[4] == '1' then
  redis.call('ZADD', final, ARGV[6], id)
else
  redis.call('ZADD', open, ARGV[7], id)
end
if ARGV[5] == '1' then
  redis.call('SET', wait, id, 'PXAT', stop)
end
for i = 3, 6 do
  if redis.call('PTTL', KEYS[i]) < tonumber(stop) - tonumber(now) then
    redis.call('PEXPIREAT', KEYS[i], stop)
  end
end
return 'ok'
