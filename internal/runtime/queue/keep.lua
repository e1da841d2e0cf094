-- Writes a field of a job's hash while the job is there. KEYS 1 the hash; ARGV 1 field  2 value.
if redis.call('HEXISTS', KEYS[1], 'msg') == 1 then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  return 1
end
return 0
