-- KEYS lock, fence, queue, alive
-- ARGV ticket, ms that a lock lives, ms after which a silent waiter counts as gone, ms that a fence is kept
-- Gives the fence of who is let in, or '' for who has to wait. Fences only grow, even over a restart that lost all: they are the
-- server's time in microseconds, or one more than the last.
local lock, fence, queue, alive = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local ticket = ARGV[1]
local held = redis.call('GET', lock)
if held then
  local who, number = string.match(held, '^(%S+) (%d+)$')
  if who == ticket then
    return number
  end
end
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local ms = string.format('%.0f', math.floor(now / 1000))
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', alive, '-inf', string.format('%.0f', now / 1000 - tonumber(ARGV[3])))) do
  redis.call('ZREM', alive, gone)
  redis.call('ZREM', queue, gone)
end
if not held then
  local head = redis.call('ZRANGE', queue, 0, 0)[1]
  if not head or head == ticket then
    local last = tonumber(redis.call('GET', fence) or '0')
    local number = string.format('%.0f', math.max(last + 1, now))
    redis.call('SET', fence, number, 'PX', ARGV[4])
    redis.call('SET', lock, ticket .. ' ' .. number, 'PX', ARGV[2])
    if head then
      redis.call('ZREM', queue, ticket)
      redis.call('ZREM', alive, ticket)
    end
    return number
  end
end
redis.call('ZADD', queue, 'NX', string.format('%.0f', now), ticket)
redis.call('ZADD', alive, ms, ticket)
redis.call('PEXPIRE', queue, 60000)
redis.call('PEXPIRE', alive, 60000)
return ''
