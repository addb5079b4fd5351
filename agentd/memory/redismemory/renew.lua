-- KEYS lock, fence
-- ARGV ticket, its fence, ms that a lock lives, ms that a fence is kept
-- Gives 0 where another one was let in. A lock that ended, or was lost with the server's data, is taken again.
if tonumber(redis.call('GET', KEYS[2]) or '0') > tonumber(ARGV[2]) then
  return 0
end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[4])
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2], 'PX', ARGV[3])
return 1
