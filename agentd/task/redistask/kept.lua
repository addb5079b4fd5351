-- ARGV 2 limit, 3 ms after which a keeper is silent, 0: it may live, 4 a place in the list of the first keeper to go on behind, as it was given, or '', 5... keepers
-- Gives {place, names...} of open tasks of those keepers; the place is '' where there is nothing more.
local limit, silence = tonumber(ARGV[2]), tonumber(ARGV[3])
local out = {''}
for i = 5, #ARGV do
  local keeper = ARGV[i]
  local heard = tonumber(redis.call('ZSCORE', P .. 'keepers', keeper) or '0')
  if silence == 0 or heard <= now - silence then
    local list, from = P .. 'k:' .. keeper, 0
    if i == 5 and ARGV[4] ~= '' then -- behind it, whether it is still there or not
      local at, name = string.match(ARGV[4], '^(%d+) (%x+)$')
      redis.call('ZADD', list, at, name .. '~')
      from = redis.call('ZRANK', list, name .. '~')
      redis.call('ZREM', list, name .. '~')
    end
    local room = limit - #out + 1
    local found = redis.call('ZRANGE', list, from, from + room - 1, 'WITHSCORES')
    if #found == 2 * room then
      out[1] = num(found[#found]) .. ' ' .. found[#found - 1]
    end
    for j = 1, #found, 2 do
      local name = found[j]
      local f = facts(name)
      if f and f.keeper == keeper and not over[f.state] then
        out[#out + 1] = name
      else
        redis.call('ZREM', list, name)
      end
    end
  end
  if #out > limit then
    break
  end
end
return out
