-- KEYS meta, turns, ids, vectors, index
-- ARGV sid
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
redis.call('ZREM', KEYS[5], ARGV[1])
return 1
