-- Ends a move at asynq's side: what was paused only while jobs moved goes on.
-- KEYS 1-3 pause flags of the bands  4 ledger counts  5 fence
-- ARGV 1 fence token  2 the way, or empty when it is told by another script
local call = redis.call
if ARGV[1] ~= '' and call('GET', KEYS[5]) ~= ARGV[1] then
  return redis.error_reply('REDISOPT_FENCED the lease on this migration was lost')
end
if call('HGET', KEYS[4], 'held') == '1' then
  for i = 1, 3 do call('DEL', KEYS[i]) end
  call('HDEL', KEYS[4], 'held')
end
if ARGV[2] == 'there' then call('HDEL', KEYS[4], 'front') end -- of a way back that was given up
if ARGV[2] ~= '' then call('HSET', KEYS[4], 'finished', ARGV[2]) end
return 'ok'
