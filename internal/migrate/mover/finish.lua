-- Ends a move: queue-level keys that are neither jobs nor schedulers.
-- KEYS  1-2 source and target metrics:completed   3-4 their data   5-6 metrics:failed   7-8 their data
--       9 wait  10 paused  11 meta-paused  12 meta  13 marker  14 delayed  15 prioritized  16 limiter:index
--      17 ledger counts  18 fence  19 completed  20 failed  then keys that are deleted (in place only)
-- ARGV  1 fence token  2 target: 4 5 6  3 in place  4 the queue is paused  5 the way  6 number of counters,
--       then counter, container type (l or z) and key index into KEYS of each
-- The last thing it writes is that it was done: prepare takes that back when more is to be moved.
local call = redis.call
if ARGV[1] ~= '' and call('GET', KEYS[18]) ~= ARGV[1] then
  return redis.error_reply('REDISOPT_FENCED the lease on this migration was lost')
end
local target, paused = ARGV[2], ARGV[4] == '1'
if ARGV[3] == '0' then
  -- Another prefix: the source keeps its own until the migration is completed.
  for i = 1, 7, 2 do
    if call('EXISTS', KEYS[i]) == 1 and call('EXISTS', KEYS[i + 1]) == 0 then
      if i == 1 or i == 5 then
        call('HSET', KEYS[i + 1], unpack(call('HGETALL', KEYS[i])))
      else
        local points = call('LRANGE', KEYS[i], 0, 9999)
        for at = 1, #points, 1000 do
          call('RPUSH', KEYS[i + 1], unpack(points, at, math.min(at + 999, #points)))
        end
      end
    end
  end
  if ARGV[5] == 'there' then call('HDEL', KEYS[17], 'front') end -- of a way back that was given up
  call('HSET', KEYS[17], 'finished', ARGV[5])
  return 'ok'
end

if target == '4' then
  call('HDEL', KEYS[12], 'version', 'opts.maxLenEvents', 'concurrency', 'max', 'duration')
else
  if paused then call('HSET', KEYS[12], 'paused', '1') end
  call('DEL', KEYS[11])
  if target == '6' and call('EXISTS', KEYS[10]) == 1 and call('EXISTS', KEYS[9]) == 0 then
    call('RENAME', KEYS[10], KEYS[9])
  end
  -- Sets of jobs held back by the rate limiter, of every group; any other name is somebody else's key.
  local limiter = string.sub(KEYS[9], 1, -5) .. 'limiter:'
  local sets = call('HVALS', KEYS[16])
  for i = 1, #sets do
    if string.sub(sets[i], 1, #limiter) == limiter then
      call('DEL', sets[i])
      if string.sub(sets[i], -8) == ':limited' then call('DEL', string.sub(sets[i], 1, -9)) end
    end
  end
  if not paused and (call('EXISTS', KEYS[9]) == 1 or call('EXISTS', KEYS[15]) == 1) then
    call('ZADD', KEYS[13], 0, '0')
  end
  local first = call('ZRANGE', KEYS[14], 0, 0, 'WITHSCORES')
  if first[2] then
    call('ZADD', KEYS[13], string.format('%.0f', math.floor(tonumber(first[2]) / 4096)), '1')
  end
end
for i = 21, #KEYS do
  call('DEL', KEYS[i])
end
for i = 0, tonumber(ARGV[6]) - 1 do
  local counter, kind, key = ARGV[7 + i * 3], ARGV[8 + i * 3], KEYS[tonumber(ARGV[9 + i * 3])]
  local n = call(kind == 'l' and 'LLEN' or 'ZCARD', key)
  if n > 0 then call('HSET', KEYS[17], counter, n) else call('HDEL', KEYS[17], counter) end
end
call('HSET', KEYS[17], 'finished', ARGV[5])
return 'ok'
