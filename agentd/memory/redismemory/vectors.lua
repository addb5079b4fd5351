-- KEYS meta, vectors
-- ARGV life, space. Gives numbers and vectors in turn.
if redis.call('HGET', KEYS[1], 'life') ~= ARGV[1] or redis.call('HGET', KEYS[2], 'space') ~= ARGV[2] then
  return {}
end
return redis.call('HGETALL', KEYS[2])
