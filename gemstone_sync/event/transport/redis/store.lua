-- What happens to the keys of a RedisStore, each call as a whole or not at all.
--
-- It gets one key, <prefix>epoch, and the arguments: what to do, the epoch that the store knows, and
-- what that function takes. The other keys are made from the prefix ({tags} in it keep them in one
-- slot):
--
--   epoch          made by the first to open the store; another one, or none, means that Redis was
--                  emptied meanwhile and nothing is declared any more
--   version        counts the changes of exchanges and bindings
--   sequence       counts the messages; a message's number is its place in every queue
--   exchanges      hash: exchange -> kind
--   bindings:E     set: (pattern, queue), packed
--   queue:Q        hash: expires (ms), limit, dead
--   bound:Q        set: (exchange, pattern), packed; so that its bindings go with the queue
--   expiring       sorted set: queue -> when it goes
--   messages:Q     hash: number -> payload
--   ready:Q        sorted set: what can be taken, by number
--   due:Q          sorted set: what can be taken later, by moment
--   dues:Q         hash: number -> moment, of those with one
--   leased:Q       sorted set: number:token -> when the lease ends
--   deliveries:Q   hash: number -> how many leases of it have ended, if any
--   lane:Q         hash: number -> lane, of those with a key
--   lanes:Q        sorted set: lane + number; only the first of a lane is in ready, due or leased
--
-- A lane is a key with its length before it, so that no lane begins with another. Moments are in ms
-- of Redis's own clock. In each function what must not fail comes first: a Redis over its maxmemory
-- refuses the first command that needs memory, and lets a script go on that has changed something
-- already; so taking, acknowledging and renewing work there, and publishing does nothing. What is of
-- any length comes and goes as one MessagePack value: redis-py needs 2 µs and more for each argument
-- and result.

local call = redis.call
local prefix = string.sub(KEYS[1], 1, -6)
local epoch = call('GET', KEYS[1])

-- Without a right to do that it is stored all the same, and must not be told as a failure.
local function wake() redis.pcall('PUBLISH', prefix .. 'changed', '') end

if ARGV[1] == 'open' then
  if epoch then return epoch end
  call('SET', KEYS[1], ARGV[2])
  wake()  -- those who wait for what was there are to see that it is gone
  return ARGV[2]
end
if epoch ~= ARGV[2] then return 'emptied' end

local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
-- Whether there is more to take than before.
local woken = false

local function name(part, queue) return prefix .. part .. ':' .. queue end

-- Queues

local function exists(queue) return call('EXISTS', name('queue', queue)) == 1 end

local function changed() call('INCR', prefix .. 'version') end

local function delete(queue)
  call('ZREM', prefix .. 'expiring', queue)
  for _, packed in ipairs(call('SMEMBERS', name('bound', queue))) do
    local exchange, pattern = unpack(cmsgpack.unpack(packed))
    call('SREM', name('bindings', exchange), cmsgpack.pack({pattern, queue}))
  end
  for _, part in ipairs({'queue', 'bound', 'messages', 'ready', 'due', 'dues', 'leased',
                         'deliveries', 'lane', 'lanes'}) do
    call('UNLINK', name(part, queue))
  end
  changed()
end

local function sweep()
  local gone = call('ZRANGEBYSCORE', prefix .. 'expiring', '-inf', now, 'LIMIT', 0, 100)
  for _, queue in ipairs(gone) do delete(queue) end
end

-- Messages

-- Where it can be taken from, now or later. Only for the first of a lane.
local function offer(queue, number, due)
  if due and tonumber(due) > now then
    call('ZADD', name('due', queue), due, number)
  else
    call('ZADD', name('ready', queue), number, number)
  end
  woken = true
end

local function first_of(queue, lane)
  local range = call('ZRANGEBYLEX', name('lanes', queue), '[' .. lane, '(' .. lane .. '~',
                     'LIMIT', 0, 1)
  if range[1] then return tostring(tonumber(string.sub(range[1], -16))) end
end

local function in_lane(lane, number) return lane .. string.format('%016d', number) end

local function add(queue, number, payload, lane, due)
  call('HSET', name('messages', queue), number, payload)
  if due > now then call('HSET', name('dues', queue), number, due) end
  if lane ~= '' then
    local waits = first_of(queue, lane)
    call('HSET', name('lane', queue), number, lane)
    call('ZADD', name('lanes', queue), 0, in_lane(lane, number))
    if waits then return end
  end
  offer(queue, number, due)
end

-- It is in no sorted set any more but lanes.
local function remove(queue, number)
  call('HDEL', name('messages', queue), number)
  call('HDEL', name('dues', queue), number)
  call('HDEL', name('deliveries', queue), number)
  local lane = call('HGET', name('lane', queue), number)
  if lane then
    call('HDEL', name('lane', queue), number)
    call('ZREM', name('lanes', queue), in_lane(lane, number))
    local following = first_of(queue, lane)
    if following then
      offer(queue, following, call('HGET', name('dues', queue), following))
    end
  end
end

local function number_of(member) return string.match(member, '^%d+') end

-- Those whose lease has ended: again in their old place, or with the dead letters.
local function take_back(queue)
  local ended = call('ZRANGEBYSCORE', name('leased', queue), '-inf', now, 'LIMIT', 0, 1000)
  if #ended == 0 then return end
  local limit, dead = unpack(call('HMGET', name('queue', queue), 'limit', 'dead'))
  limit = limit and dead and exists(dead) and tonumber(limit)
  for _, member in ipairs(ended) do
    local number = number_of(member)
    call('ZREM', name('leased', queue), member)
    local times = call('HINCRBY', name('deliveries', queue), number, 1)
    if limit and times >= limit then
      local payload = call('HGET', name('messages', queue), number)
      remove(queue, number)
      add(dead, call('INCR', prefix .. 'sequence'), payload, '', 0)
    else
      offer(queue, number)
    end
  end
end

-- What a store may ask for

local functions = {}

-- packed: (exchange, kind), (queue, expires (ms), limit, dead), '' for what there is none of, and
-- (exchange, pattern, queue) of bindings -> the queue that is not there to be bound, if any
function functions.declare(packed)
  sweep()
  local exchanges, queues, bindings = unpack(cmsgpack.unpack(packed))
  for _, each in ipairs(bindings) do
    local queue, found = each[3], false
    for _, other in ipairs(queues) do found = found or other[1] == queue end
    if not found and not exists(queue) then return queue end
  end
  for _, each in ipairs(exchanges) do
    local exchange, kind = unpack(each)
    if call('HGET', prefix .. 'exchanges', exchange) ~= kind then
      call('HSET', prefix .. 'exchanges', exchange, kind)
      changed()
    end
  end
  for _, each in ipairs(queues) do
    local queue, expires, limit, dead = unpack(each)
    call('DEL', name('queue', queue))
    for field, value in pairs({expires = expires, limit = limit, dead = dead}) do
      if value ~= '' then call('HSET', name('queue', queue), field, value) end
    end
    call('HSET', name('queue', queue), 'declared', now)
    if expires ~= '' then
      call('ZADD', prefix .. 'expiring', now + expires, queue)
    else
      call('ZREM', prefix .. 'expiring', queue)
    end
  end
  for _, each in ipairs(bindings) do
    local exchange, pattern, queue = unpack(each)
    local bound, binding = cmsgpack.pack({exchange, pattern}), cmsgpack.pack({pattern, queue})
    if call('SISMEMBER', name('bound', queue), bound) == 0
      or call('SISMEMBER', name('bindings', exchange), binding) == 0 then
      call('SADD', name('bound', queue), bound)
      call('SADD', name('bindings', exchange), binding)
      changed()
    end
  end
end

function functions.delete_queue(queue)
  sweep()
  delete(queue)
end

-- -> version, then for each exchange its name, its kind, and pattern, queue, time (ms) or '',
-- pattern, ...
function functions.routes()
  sweep()
  local routes = {call('GET', prefix .. 'version') or '0'}
  local exchanges = call('HGETALL', prefix .. 'exchanges')
  for position = 1, #exchanges, 2 do
    local bindings = {}
    for _, packed in ipairs(call('SMEMBERS', name('bindings', exchanges[position]))) do
      local pattern, queue = unpack(cmsgpack.unpack(packed))
      bindings[#bindings + 1] = pattern
      bindings[#bindings + 1] = queue
      bindings[#bindings + 1] = call('HGET', name('queue', queue), 'expires') or ''
    end
    routes[#routes + 1] = {exchanges[position], exchanges[position + 1], bindings}
  end
  return routes
end

-- packed: queues, and (exchange, pattern, queue) of bindings -> the queues that are not there, or
-- not bound
function functions.touch(packed)
  local missing = {}
  local queues, bindings = unpack(cmsgpack.unpack(packed))
  for _, queue in ipairs(queues) do
    local expires = call('HGET', name('queue', queue), 'expires')
    if expires then
      call('ZREM', prefix .. 'expiring', queue)
      call('ZADD', prefix .. 'expiring', now + expires, queue)
    elseif not exists(queue) then
      missing[#missing + 1] = queue
    end
  end
  for _, each in ipairs(bindings) do
    local exchange, pattern, queue = unpack(each)
    if call('SISMEMBER', name('bindings', exchange), cmsgpack.pack({pattern, queue})) == 0 then
      missing[#missing + 1] = queue
    end
  end
  return missing
end

-- packed: for each message its payload, lane, due (ms), queues, and its exchange or 'missed' -> into
-- how many queues each went, or that the version is another one
function functions.publish(version, packed)
  sweep()
  if (call('GET', prefix .. 'version') or '0') ~= version then return 'stale' end
  local entries = cmsgpack.unpack(packed)
  local known, results = {}, {}
  for _, entry in ipairs(entries) do
    for _, queue in ipairs(entry[4]) do
      if known[queue] == nil then known[queue] = exists(queue) end
      if not known[queue] and entry[5] ~= '' then
        delete(queue)  -- another program has deleted it, and left it bound
        return 'stale'
      end
    end
  end
  local number = call('INCRBY', prefix .. 'sequence', #entries) - #entries
  for position, entry in ipairs(entries) do
    number = number + 1
    local payload, lane, due, queues, exchange = unpack(entry)
    local reached = exchange == 'missed' and -1 or 0
    for _, queue in ipairs(queues) do
      if known[queue] and reached >= 0 then
        add(queue, number, payload, lane, due)
        reached = reached + 1
      end
    end
    results[position] = reached
  end
  return results
end

-- lease (ms); packed: (queue, number) of each -> two values. Packed, for each queue: ms until
-- something more may be there to take, or -1; then number:token, length of the payload and
-- deliveries of each message. And all payloads in a row.
function functions.take(token, lease, packed)
  sweep()
  local results, payloads = {}, {}
  for _, one in ipairs(cmsgpack.unpack(packed)) do
    local queue, wanted = unpack(one)
    take_back(queue)
    local due = call('ZRANGEBYSCORE', name('due', queue), '-inf', now, 'LIMIT', 0, 1000)
    for _, number in ipairs(due) do
      call('ZREM', name('due', queue), number)
      call('ZADD', name('ready', queue), number, number)
    end
    local taken = {-1}
    local popped = call('ZPOPMIN', name('ready', queue), wanted)
    local counted = call('EXISTS', name('deliveries', queue)) == 1
    for index = 1, #popped, 2 do
      local number = popped[index]
      local member = number .. ':' .. token
      call('ZADD', name('leased', queue), now + lease, member)
      local payload = call('HGET', name('messages', queue), number) or ''
      payloads[#payloads + 1] = payload
      taken[#taken + 1] = member
      taken[#taken + 1] = #payload
      taken[#taken + 1] = tonumber(counted and call('HGET', name('deliveries', queue), number) or 0)
    end
    for _, part in ipairs({'due', 'leased'}) do
      local following = call('ZRANGE', name(part, queue), 0, 0, 'WITHSCORES')[2]
      if following then
        local left = math.max(0, following - now)
        if taken[1] < 0 or left < taken[1] then taken[1] = left end
      end
    end
    if call('EXISTS', name('ready', queue)) == 1 then taken[1] = 0 end
    results[#results + 1] = taken
  end
  return {cmsgpack.pack(results), table.concat(payloads)}
end

-- packed, here and below: (queue, number:token) of each -> how many there were
function functions.acknowledge(packed)
  local count = 0
  for _, one in ipairs(cmsgpack.unpack(packed)) do
    local queue, member = unpack(one)
    if call('ZREM', name('leased', queue), member) == 1 then
      remove(queue, number_of(member))
      count = count + 1
    end
  end
  return count
end

function functions.release(packed)
  for _, one in ipairs(cmsgpack.unpack(packed)) do
    local queue, member = unpack(one)
    local number = number_of(member)
    if call('ZREM', name('leased', queue), member) == 1 then
      offer(queue, number)
    elseif tonumber(call('HGET', name('deliveries', queue), number) or 0) > 0 then
      -- Its lease has ended, and whoever had it lives.
      call('HINCRBY', name('deliveries', queue), number, -1)
    end
  end
end

-- delay: ms -> 1, or 0 when it is another's by now, or there is no memory
function functions.postpone(queue, member, payload, delay)
  local number = number_of(member)
  if not call('ZSCORE', name('leased', queue), member) then return 0 end
  if type(redis.pcall('HSET', name('messages', queue), number, payload)) == 'table' then return 0 end
  call('HDEL', name('deliveries', queue), number)
  call('ZREM', name('leased', queue), member)
  offer(queue, number, now + delay)
  return 1
end

function functions.renew(packed, lease)
  for _, one in ipairs(cmsgpack.unpack(packed)) do
    local leased, member = name('leased', one[1]), one[2]
    if call('ZREM', leased, member) == 1 then call('ZADD', leased, now + lease, member) end
  end
end

-- -> how many are not taken
function functions.size(queue)
  sweep()
  take_back(queue)
  return call('HLEN', name('messages', queue)) - call('ZCARD', name('leased', queue))
end

-- -> how many were removed. Those that are taken are put aside, and back.
function functions.purge(queue)
  sweep()
  take_back(queue)
  local taken = {}
  for _, member in ipairs(call('ZRANGE', name('leased', queue), 0, -1)) do
    local number = number_of(member)
    taken[#taken + 1] = {number, call('HGET', name('messages', queue), number),
      call('HGET', name('lane', queue), number), call('HGET', name('deliveries', queue), number)}
  end
  local count = call('HLEN', name('messages', queue)) - #taken
  for _, part in ipairs({'messages', 'ready', 'due', 'dues', 'deliveries', 'lane', 'lanes'}) do
    call('UNLINK', name(part, queue))
  end
  for _, kept in ipairs(taken) do
    local number, payload, lane, deliveries = unpack(kept, 1, 4)
    call('HSET', name('messages', queue), number, payload)
    if deliveries then call('HSET', name('deliveries', queue), number, deliveries) end
    if lane then
      call('HSET', name('lane', queue), number, lane)
      call('ZADD', name('lanes', queue), 0, in_lane(lane, number))
    end
  end
  return count
end

local result = functions[ARGV[1]](unpack(ARGV, 3))
if woken then wake() end
return result
