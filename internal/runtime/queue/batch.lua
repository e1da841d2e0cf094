-- Puts one item into the open batch of a key, or opens one. The items are fields of the batch's own hash, so
-- that they come and go with the job.
--
-- KEYS 1 pending  2 paused  3 scheduled  4 the key that names the open batch
--      5 the hash of the new batch, used where none is open
-- ARGV 1 now, Unix nanoseconds  2 most that may wait while paused, -1: any  3 "1" when paused by control
--      4 id of the new batch  5 its message  6 when it goes  7 size  8 item  9 life of the name, seconds
--
-- Answers commands run, {1, id, items, when or 0 for now} or {-2} for a backlog that is full.
local calls = 0
local function call(...)
  calls = calls + 1
  return redis.call(...)
end

local prefix = string.sub(KEYS[5], 1, -#ARGV[4] - 1)
local size = tonumber(ARGV[7])
local id = call('GET', KEYS[4])
local open, n = false, 0
if id then
  local got = call('HMGET', prefix .. id, 'state', 'items')
  n = tonumber(got[2] or '0')
  -- One that is pending may have been tried, and an attempt must not differ from the one before.
  open = got[1] == 'scheduled' and n < size
end
if not open then
  local paused = ARGV[3] == '1'
  if not paused then
    paused = call('EXISTS', KEYS[2]) == 1
  end
  if paused and tonumber(ARGV[2]) >= 0 and call('LLEN', KEYS[1]) >= tonumber(ARGV[2]) then
    return {calls, {-2}}
  end
  id = ARGV[4]
  call('HSET', prefix .. id, 'msg', ARGV[5], 'state', 'scheduled', 'items', 1, 'item:1', ARGV[8])
  if size > 1 then
    call('ZADD', KEYS[3], ARGV[6], id)
    call('SET', KEYS[4], id, 'EX', ARGV[9])
    return {calls, {1, id, 1, ARGV[6]}}
  end
  call('HSET', prefix .. id, 'state', 'pending', 'pending_since', ARGV[1])
  call('LPUSH', KEYS[1], id)
  return {calls, {1, id, 1, 0}}
end
n = n + 1
call('HSET', prefix .. id, 'items', n, 'item:' .. n, ARGV[8])
local when = call('ZSCORE', KEYS[3], id)
if n >= size then
  call('DEL', KEYS[4])
  if call('ZREM', KEYS[3], id) == 1 then
    call('HSET', prefix .. id, 'state', 'pending', 'pending_since', ARGV[1])
    call('LPUSH', KEYS[1], id)
  end
  when = false
end
return {calls, {1, id, n, when or 0}}
