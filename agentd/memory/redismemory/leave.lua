-- KEYS lock, fence, queue, alive
-- ARGV ticket, ms that a fence is kept
-- Ends a ticket, whether it waits or is in. The fence grows by one, so that what its holder sent before and arrives late is refused.
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
local held = redis.call('GET', KEYS[1])
if held then
  local who, number = string.match(held, '^(%S+) (%d+)$')
  if who == ARGV[1] then
    redis.call('DEL', KEYS[1])
    redis.call('SET', KEYS[2], string.format('%.0f', tonumber(number) + 1), 'PX', ARGV[2])
  end
end
return 1
