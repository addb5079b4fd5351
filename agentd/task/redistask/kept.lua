-- ARGV 2 limit, 3 ms after which a keeper is silent, 0: it may live, 4... keepers
-- Gives names of open tasks of those keepers.
local out = {}
local limit, silence = tonumber(ARGV[2]), tonumber(ARGV[3])
for i = 4, #ARGV do
  local keeper = ARGV[i]
  local heard = tonumber(redis.call('ZSCORE', P .. 'keepers', keeper) or '0')
  if silence == 0 or heard <= now - silence then
    for _, name in ipairs(redis.call('ZRANGE', P .. 'k:' .. keeper, 0, limit - #out - 1)) do
      local f = facts(name)
      if f and f.keeper == keeper and not over[f.state] then
        out[#out + 1] = name
      else
        redis.call('ZREM', P .. 'k:' .. keeper, name)
      end
    end
  end
  if #out >= limit then
    break
  end
end
return out
