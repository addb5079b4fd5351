-- KEYS meta, turns. Gives the fields of meta and the exchanges; nothing where a part of the session was lost, such as by eviction.
local m = redis.call('HMGET', KEYS[1], 'life', 'first', 'next', 'config', 'summary', 'until', 'failed')
if not m[1] then
  return {}
end
local t = redis.call('LRANGE', KEYS[2], 0, -1)
if #t ~= tonumber(m[3]) - tonumber(m[2]) then
  return {}
end
for i = 4, 7 do
  m[i] = m[i] or ''
end
return {m[1], m[2], m[4], m[5], m[6], m[7], t}
