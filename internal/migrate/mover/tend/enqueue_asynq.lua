-- KEYS 1 the job's hash  2 pending or scheduled  3 lock of the unique value, or the hash again
--      4 ... the hashes that a job of this id would have in the other bands
-- ARGV 1 id  2 message  3 now in ns  4 when due in seconds, or 0  5 life of the lock in seconds, or 0
-- Answers what became of it (d added, x the id is taken, u the unique value is taken), the id, and how many
-- commands ran. The hash is written before the id is where a worker looks.
local calls = 0
local function call(...)
  calls = calls + 1
  return redis.call(...)
end
local want = ARGV[4] == '0' and 'list' or 'zset'
local is = call('TYPE', KEYS[2])['ok']
if is ~= 'none' and is ~= want then return redis.error_reply('REDISOPT_WRONGTYPE ' .. KEYS[2]) end
local hashes = {KEYS[1]}
for i = 4, #KEYS do hashes[#hashes + 1] = KEYS[i] end
if call('EXISTS', unpack(hashes)) > 0 then return {'x', ARGV[1], calls} end
local fields = {'msg', ARGV[2]}
if ARGV[5] ~= '0' then
  local holder = call('GET', KEYS[3])
  if holder then
    for i = 1, #hashes do -- one that has ended, or is gone, holds nothing
      local state = call('HGET', string.sub(hashes[i], 1, -#ARGV[1] - 1) .. holder, 'state')
      if state and state ~= 'archived' and state ~= 'completed' then return {'u', holder, calls} end
    end
  end
  call('SET', KEYS[3], ARGV[1], 'EX', ARGV[5])
  fields[3], fields[4] = 'unique_key', KEYS[3]
end
if ARGV[4] == '0' then
  call('HSET', KEYS[1], 'state', 'pending', 'pending_since', ARGV[3], unpack(fields))
  call('LPUSH', KEYS[2], ARGV[1])
else
  call('HSET', KEYS[1], 'state', 'scheduled', unpack(fields))
  call('ZADD', KEYS[2], ARGV[4], ARGV[1])
end
return {'d', ARGV[1], calls}
