-- ARGV 2 name, 3 id, 4 owner, 5 context, 6 state, 7 keeper, 8 size, 9 its place in lists, 10 ttl ms, 11 a name for this very call, 12 most tasks,
-- 13 most bytes, 14 record, 15 history, 16 artifacts
-- Gives 'ok', 'exists' or 'full'.
local name = ARGV[2]
local key = P .. 'r:' .. name
sweep(100)
if redis.call('EXISTS', key) == 1 then -- the same call twice, by a lost connection, is done once
  return string.find(redis.call('HGET', key, 'c'), ARGV[11], 1, true) and 'ok' or 'exists'
end
drop(name) -- what was left of one whose record was lost
local new = {id = ARGV[3], owner = ARGV[4], context = ARGV[5], state = ARGV[6], keeper = ARGV[7], size = tonumber(ARGV[8])}
if not room(1, new.size, tonumber(ARGV[12]), tonumber(ARGV[13])) then
  return 'full'
end
redis.call('HSET', key, 'v', 1, 's', 0, 'c', ARGV[11], 'h', ARGV[14], 'm', ARGV[15], 'a', ARGV[16])
place(name, nil, new, ARGV[9], tonumber(ARGV[10]))
return 'ok'
