-- KEYS 1 wait  2 paused  3 meta  4 id  5 delayed  6 active  7 marker  8 prioritized  9 pc  10 events
-- ARGV 1 prefix  2 own id or ''  3 name  4 data  5 opts  6 now  7 delay  8 when due, or 0  9 priority
--      10 LPUSH or RPUSH  11 major  12 unique id or ''  13 its ttl in ms or ''
-- Answers what became of it (d added, x the id is taken, u the unique id is taken, n no free id), the id,
-- and how many commands ran. The hash is written before the id is where a worker looks.
local base, now = ARGV[1], ARGV[6]
local calls = 0
local function call(...)
  calls = calls + 1
  return redis.call(...)
end
for i, want in ipairs({'list', 'list', 'hash', 'string', 'zset', 'list', 'zset', 'zset', 'string', 'stream'}) do
  local is = call('TYPE', KEYS[i])['ok']
  if is ~= 'none' and is ~= want then return redis.error_reply('REDISOPT_WRONGTYPE ' .. KEYS[i]) end
end
local id = ARGV[2]
if id ~= '' and call('EXISTS', base .. id) == 1 then return {'x', id, calls} end
local unique = base .. 'de:' .. ARGV[12]
if ARGV[12] ~= '' then
  local holder = call('GET', unique)
  if holder and (call('EXISTS', base .. holder) == 1 or call('PTTL', unique) >= 0) then
    return {'u', holder, calls}
  end
end
local count = call('INCR', KEYS[4])
if id == '' then
  for i = 1, 1000 do -- the library does not look: an own id may be where the counter comes to
    if call('EXISTS', base .. count) == 0 then break end
    if i == 1000 then return {'n', '' .. count, calls} end
    count = call('INCR', KEYS[4])
  end
  id = count .. ''
end
local about = call('HMGET', KEYS[3], 'paused', 'concurrency', 'opts.maxLenEvents')
local longest = about[3]
if not longest then
  longest = 10000
  call('HSET', KEYS[3], 'opts.maxLenEvents', longest)
end
local fields = {'name', ARGV[3], 'data', ARGV[4], 'opts', ARGV[5], 'timestamp', now, 'delay', ARGV[7], 'priority', ARGV[9]}
if ARGV[12] ~= '' then
  fields[#fields + 1], fields[#fields + 2] = 'deid', ARGV[12]
  if ARGV[13] ~= '' then
    call('SET', unique, id, 'PX', ARGV[13])
  else
    call('SET', unique, id)
  end
end
call('HSET', base .. id, unpack(fields))
call('XADD', KEYS[10], '*', 'event', 'added', 'jobId', id, 'name', ARGV[3])
local due = tonumber(ARGV[8])
if due > 0 then
  local score, last = due * 0x1000, (due + 1) * 0x1000 - 1
  local there = call('ZREVRANGEBYSCORE', KEYS[5], string.format('%.0f', last), string.format('%.0f', score), 'WITHSCORES', 'LIMIT', 0, 1)
  if there[2] then score = math.min(tonumber(there[2]) + 1, last) end
  call('ZADD', KEYS[5], string.format('%.0f', score), id)
  local first = call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')
  call('ZADD', KEYS[7], tonumber(first[2]) / 0x1000, '1')
  call('XADD', KEYS[10], 'MAXLEN', '~', longest, '*', 'event', 'delayed', 'jobId', id, 'delay', ARGV[8])
  return {'d', id, calls}
end
local quiet = about[1] or (about[2] and call('LLEN', KEYS[6]) >= tonumber(about[2]))
local priority = tonumber(ARGV[9])
if priority > 0 then
  call('ZADD', KEYS[8], string.format('%.0f', priority * 0x100000000 + call('INCR', KEYS[9]) % 0x100000000), id)
else
  call(ARGV[10], about[1] and tonumber(ARGV[11]) < 6 and KEYS[2] or KEYS[1], id)
end
if not quiet then call('ZADD', KEYS[7], 0, '0') end
call('XADD', KEYS[10], 'MAXLEN', '~', longest, '*', 'event', 'waiting', 'jobId', id)
return {'d', id, calls}
