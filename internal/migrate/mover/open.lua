-- Makes asynq ready to receive the jobs of a queue: its three bands are known to asynq's tools, and are
-- paused until all is there, unless this only takes in what comes late.
-- KEYS 1-3 pause flags of the bands  4 asynq:queues  5 ledger counts  6 fence
-- ARGV 1 fence token  2-4 names of the bands  5 the source is paused: 1 or 0  6 hold: 1 or 0  7 now, seconds
--      8 undoing
local call = redis.call
if ARGV[1] ~= '' and call('GET', KEYS[6]) ~= ARGV[1] then
  return redis.error_reply('REDISOPT_FENCED the lease on this migration was lost')
end
local kinds = { { 1, 'string' }, { 2, 'string' }, { 3, 'string' }, { 4, 'set' } }
for i = 1, #kinds do
  local t = call('TYPE', KEYS[kinds[i][1]])
  t = t.ok or t
  if t ~= 'none' and t ~= kinds[i][2] then
    return redis.error_reply('REDISOPT_WRONGTYPE ' .. KEYS[kinds[i][1]])
  end
end
call('HDEL', KEYS[5], 'finished') -- from here on there is something to finish again
if ARGV[8] == '0' then call('HSETNX', KEYS[5], 'paused', ARGV[5]) end
call('SADD', KEYS[4], ARGV[2], ARGV[3], ARGV[4])
-- A pause of the source is carried over once, and so is its end.
local carried, held = call('HGET', KEYS[5], 'carried'), call('HGET', KEYS[5], 'held')
if ARGV[5] == '1' then
  if carried ~= '1' then
    for i = 1, 3 do call('SET', KEYS[i], ARGV[7]) end
    call('HSET', KEYS[5], 'carried', '1')
    call('HDEL', KEYS[5], 'held')
  end
elseif carried == '1' then
  for i = 1, 3 do call('DEL', KEYS[i]) end
  call('HSET', KEYS[5], 'carried', '0')
end
if ARGV[6] == '1' and not held and call('EXISTS', KEYS[1]) == 0 then
  for i = 1, 3 do call('SET', KEYS[i], ARGV[7]) end
  call('HSET', KEYS[5], 'held', '1')
end
return 'ok'
