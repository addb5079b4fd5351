-- ARGV 2 name, 3 id, 4 owner, 5 context, 6 state, 7 keeper, 8 size, 9 its place in lists, 10 ttl ms, 11 a name for this very call, 12 'VERSION
-- CALL' that it follows, 13 seq, 14 it must have room (0, 1), 15 most bytes, 16 who writes, 17 the task's name for its keeper, 18 record,
-- 19 the history is in 20 (0, 1), 20 history, 21 the artifacts are in 22 (0, 1), 22 artifacts, 23 how many pieces follow, 24... pieces, then
-- seq and event by turns, and '' for an event too large, which comes behind it
-- Gives 'ok', 'missing', 'moved' or 'full'.
local name = ARGV[2]
local key = P .. 'r:' .. name
local have = redis.call('HMGET', key, 'v', 'c')
if not have[1] then
  drop(name)
  return 'missing'
end
local calls = have[2] or ''
if have[1] .. ' ' .. string.match(calls, '^%S*') ~= ARGV[12] then -- the same call twice, by a lost connection, is done once
  return string.find(calls, ARGV[11], 1, true) and 'ok' or 'moved'
end
local old = facts(name)
local new = {id = ARGV[3], owner = ARGV[4], context = ARGV[5], state = ARGV[6], keeper = ARGV[7], size = tonumber(ARGV[8])}
local grown = new.size - (old and old.size or 0)
if ARGV[14] == '1' and grown > 0 and not room(0, grown, math.huge, tonumber(ARGV[15])) then
  return 'full'
end
redis.call('HSET', key, 'v', num(tonumber(have[1]) + 1), 's', ARGV[13], 'c', ARGV[11] .. ' ' .. string.sub(calls, 1, 120), 'h', ARGV[18])
if ARGV[19] == '1' then
  redis.call('HSET', key, 'm', ARGV[20])
end
if ARGV[21] == '1' then
  redis.call('HSET', key, 'a', ARGV[22])
  redis.call('DEL', P .. 'l:' .. name)
end
local i = 24
for _ = 1, tonumber(ARGV[23]) do
  redis.call('RPUSH', P .. 'l:' .. name, ARGV[i])
  i = i + 1
end
place(name, old, new, ARGV[9], tonumber(ARGV[10]))
while i < #ARGV do
  local seq, event = ARGV[i], ARGV[i + 1]
  i = i + 2
  if event == '' then
    redis.call('SET', P .. 'e:' .. name .. ':' .. seq, ARGV[i], 'PX', 60000)
    i = i + 1
  end
  tell(ARGV[11], name, seq, event)
end
if over[new.state] and old and not over[old.state] and old.keeper ~= '' and old.keeper ~= ARGV[16] then
  local inbox = P .. 'i:' .. old.keeper
  redis.call('ZADD', inbox, num(now), ARGV[17])
  redis.call('ZREMRANGEBYRANK', inbox, 0, -1 - TOLD)
  outlast(inbox, now + HOUR)
end
return 'ok'
