-- KEYS: the set of completed jobs. ARGV: the time, the beginning of the keys of jobs, how many at most.
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, tonumber(ARGV[3]))
if #ids == 0 then
  return 0
end
local keys = {}
for i, id in ipairs(ids) do
  keys[i] = ARGV[2] .. id
end
redis.call('DEL', unpack(keys))
redis.call('ZREM', KEYS[1], unpack(ids))
return #ids
