-- Keeps what was wrong before the first job of a migration moved, once.
-- KEYS 1 note  2 ledger counts  3 fence
-- ARGV 1 fence token, then fields and values
local call = redis.call
if ARGV[1] ~= '' and call('GET', KEYS[3]) ~= ARGV[1] then
  return redis.error_reply('REDISOPT_FENCED the lease on this migration was lost')
end
if call('EXISTS', KEYS[1], KEYS[2]) > 0 then return 'ok' end
for i = 2, #ARGV, 1000 do
  call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
return 'ok'
