-- KEYS 1 wait  2 paused  3 meta-paused  4 id  5 delayed  6 priority
-- ARGV 1 prefix  2 own id or ''  3 name  4 data  5 opts  6 now  7 delay  8 when due, or 0  9 priority
--      10 LPUSH or RPUSH  11 token  12 unique id or ''  13 its ttl in ms or ''
-- Answers what became of it (d added, x the id is taken, u the unique id is taken, n no free id), the id,
-- and how many commands ran. The hash is written before the id is where a worker looks.
local base, now = ARGV[1], ARGV[6]
local calls = 0
local function call(...)
  calls = calls + 1
  return redis.call(...)
end
for i, want in ipairs({'list', 'list', 'string', 'string', 'zset', 'zset'}) do
  local is = call('TYPE', KEYS[i])['ok']
  if is ~= 'none' and is ~= want then return redis.error_reply('REDISOPT_WRONGTYPE ' .. KEYS[i]) end
end
local id, count = ARGV[2], nil
if id ~= '' and call('EXISTS', base .. id) == 1 then return {'x', id, calls} end
local unique = base .. 'de:' .. ARGV[12]
if ARGV[12] ~= '' then
  local holder = call('GET', unique)
  if holder and (call('EXISTS', base .. holder) == 1 or call('PTTL', unique) >= 0) then
    return {'u', holder, calls}
  end
end
count = call('INCR', KEYS[4])
if id == '' then
  for i = 1, 1000 do -- the library does not look: an own id may be where the counter comes to
    if call('EXISTS', base .. count) == 0 then break end
    if i == 1000 then return {'n', '' .. count, calls} end
    count = call('INCR', KEYS[4])
  end
  id = count .. ''
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
local due = tonumber(ARGV[8])
if due > 0 then
  call('ZADD', KEYS[5], string.format('%.0f', due * 0x1000 + bit.band(count, 0xfff)), id)
  call('PUBLISH', KEYS[5], ARGV[8])
  return {'d', id, calls}
end
local target = KEYS[1]
if call('EXISTS', KEYS[3]) == 1 then target = KEYS[2] end
local priority = tonumber(ARGV[9])
if priority == 0 then
  call(ARGV[10], target, id)
else
  call('ZADD', KEYS[6], priority, id)
  local before = call('ZCOUNT', KEYS[6], 0, priority)
  local at = call('LINDEX', target, call('LLEN', target) - (before - 1))
  if at then
    call('LINSERT', target, 'BEFORE', at, id)
  else
    call('RPUSH', target, id)
  end
end
call('PUBLISH', KEYS[1] .. 'ing@' .. ARGV[11], id)
return {'d', id, calls}
