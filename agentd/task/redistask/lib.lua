-- What the scripts of this package share; it stands before each of them. ARGV[1] is what the keys begin with.
--
-- r:NAME   hash: one task: v version, s seq, c the calls that wrote last, h the record without m history and a artifacts
-- l:NAME   list: pieces of artifacts that follow a
-- e:NAME:S a large event, for a short time
-- ev       stream: the events of all tasks, numbered without gaps
-- x        hash: by name, what the indexes need to know of a task; by "", the bytes of all of them
-- ends     sorted set: all names by when they are dropped
-- done     sorted set: names of terminal tasks by when they ended, in us
-- o:...    sorted sets: IDs of an owner's tasks, the newest status first; also by context and by state
-- keepers  sorted set: processes by when they were heard of last; 0: said goodbye
-- k:KEEPER sorted set: names of open tasks that a process keeps
-- i:KEEPER sorted set: tasks of a process that others made terminal
local P = ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local fine = clock[1] * 1000000 + clock[2]
local over = {completed = true, failed = true, canceled = true, rejected = true}

-- How many events are held, about, for those who watch.
local EVENTS = 10000
-- How long what no task needs is held, in ms.
local HOUR = 3600000
-- How many ended tasks a process is told of that doesn't ask.
local TOLD = 10000

local function num(n)
  return string.format('%.0f', n)
end

-- outlast makes a key live at least until a time in ms.
local function outlast(key, stop)
  if redis.call('PTTL', key) < stop - now then
    redis.call('PEXPIREAT', key, num(stop))
  end
end

-- facts gives what is known of a task by its name, or nil.
local function facts(name)
  local f = redis.call('HGET', P .. 'x', name)
  if not f then
    return nil
  end
  local owner, context, state, keeper, size, id = string.match(f, '^(%S+) (%S+) (%S+) (%S*) (%d+) (.*)$')
  return {owner = owner, context = context, state = state, keeper = keeper, size = tonumber(size), id = id}
end

local function indexes(f)
  local base = P .. 'o:' .. f.owner
  return {base, base .. ':c:' .. f.context, base .. ':s:' .. f.state, base .. ':c:' .. f.context .. ':s:' .. f.state}
end

-- member is a task in an index: sorted by ID, and by nothing else.
local function member(f, name)
  return f.id .. '\0' .. name
end

-- newest gives the newest entry of the stream, or nil where that is no more.
local function newest()
  return redis.call('XREVRANGE', P .. 'ev', '+', '-', 'COUNT', 1)[1]
end

-- tell adds an event to the stream. An entry's ID is EPOCH-N: a gap between N is a loss, another epoch is another stream. call is a name
-- for the writing, so that an entry isn't taken for one that the server lost.
local epoch
local function tell(call, name, seq, event)
  if not epoch then
    local e = newest()
    epoch = e and string.match(e[1], '^%d+') or num(now)
  end
  redis.call('XADD', P .. 'ev', 'MAXLEN', '~', EVENTS, epoch .. '-*', 'c', call, 'n', name, 's', seq, 'e', event)
  outlast(P .. 'ev', now + HOUR)
end

-- drop forgets a task.
local function drop(name)
  local f = facts(name)
  redis.call('DEL', P .. 'r:' .. name, P .. 'l:' .. name)
  redis.call('ZREM', P .. 'ends', name)
  redis.call('ZREM', P .. 'done', name)
  if not f then
    return
  end
  redis.call('HDEL', P .. 'x', name)
  redis.call('HINCRBY', P .. 'x', '', num(-f.size))
  for _, key in ipairs(indexes(f)) do
    redis.call('ZREM', key, member(f, name))
  end
  if f.keeper ~= '' then
    redis.call('ZREM', P .. 'k:' .. f.keeper, name)
  end
end

-- sweep drops tasks whose time is over, at most n, and gives how many. Who watches one that was open is told by event 0.
local function sweep(n)
  local names = redis.call('ZRANGEBYSCORE', P .. 'ends', '-inf', num(now), 'LIMIT', 0, n)
  for _, name in ipairs(names) do
    local f = facts(name)
    if f and not over[f.state] then
      tell(num(fine), name, 0, '')
    end
    drop(name)
  end
  return #names
end

-- room makes room for tasks and bytes by dropping terminal tasks, those that ended first before others.
local function room(tasks, bytes, maxTasks, maxBytes)
  while redis.call('ZCARD', P .. 'ends') + tasks > maxTasks or tonumber(redis.call('HGET', P .. 'x', '') or '0') + bytes > maxBytes do
    local old = redis.call('ZRANGE', P .. 'done', 0, 0)[1]
    if not old then
      return false
    end
    drop(old)
  end
  return true
end

-- place writes the indexes of a task. old: its facts before, or nil; score: its place in lists; ttl in ms.
local function place(name, old, new, score, ttl)
  local first = over[new.state] and not (old and over[old.state])
  redis.call('HSET', P .. 'x', name, table.concat({new.owner, new.context, new.state, new.keeper, num(new.size), new.id}, ' '))
  redis.call('HINCRBY', P .. 'x', '', num(new.size - (old and old.size or 0)))
  local stop = now + ttl
  if old and over[old.state] then -- its time has begun
    stop = tonumber(redis.call('ZSCORE', P .. 'ends', name) or stop)
  end
  redis.call('ZADD', P .. 'ends', num(stop), name)
  redis.call('PEXPIREAT', P .. 'r:' .. name, num(stop))
  redis.call('PEXPIREAT', P .. 'l:' .. name, num(stop))
  outlast(P .. 'x', stop + HOUR) -- what sweep needs
  outlast(P .. 'ends', stop + HOUR)
  if old and old.state ~= new.state then
    local before = indexes(old)
    redis.call('ZREM', before[3], member(old, name))
    redis.call('ZREM', before[4], member(old, name))
  end
  for _, key in ipairs(indexes(new)) do
    redis.call('ZADD', key, score, member(new, name))
    outlast(key, stop)
  end
  if first then
    redis.call('ZADD', P .. 'done', num(fine), name)
  end
  outlast(P .. 'done', stop)
  if old and old.keeper ~= '' and (old.keeper ~= new.keeper or first) then
    redis.call('ZREM', P .. 'k:' .. old.keeper, name)
  end
  if new.keeper ~= '' and not over[new.state] then
    redis.call('ZADD', P .. 'k:' .. new.keeper, num(now), name)
    outlast(P .. 'k:' .. new.keeper, stop)
    redis.call('ZADD', P .. 'keepers', 'NX', num(now), new.keeper)
    outlast(P .. 'keepers', stop)
  end
end
