-- Takes out of the hashes of some jobs of asynq what is left there of the library that they came from.
-- KEYS 1 fence, then the hashes of the jobs
-- ARGV 1 fence token, then the names of the fields
-- Returns how many jobs had something left.
local call = redis.call
if ARGV[1] ~= '' and call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('REDISOPT_FENCED the lease on this migration was lost')
end
local cleaned = 0
for i = 2, #KEYS do
  if redis.pcall('HDEL', KEYS[i], 'moved_from') == 1 then
    call('HDEL', KEYS[i], unpack(ARGV, 2))
    cleaned = cleaned + 1
  end
end
return cleaned
