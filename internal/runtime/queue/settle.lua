-- Ends an attempt in a way that asynq has none for. A job that is not active any more is left alone.
--
-- KEYS 1 active  2 lease  3 where it goes: pending, retry or archived  4 its hash
-- ARGV 1 id  2 "head" or "tail" of pending, or the score in retry or archived  3 state  4 message or ""
--      5 now, Unix nanoseconds
--
-- Answers the commands run, and 1 or 0 for a job that was not active.
if redis.call('LREM', KEYS[1], 0, ARGV[1]) == 0 then
  return {1, 0}
end
redis.call('ZREM', KEYS[2], ARGV[1])
if ARGV[2] == 'head' then
  redis.call('RPUSH', KEYS[3], ARGV[1])
elseif ARGV[2] == 'tail' then
  redis.call('LPUSH', KEYS[3], ARGV[1])
else
  redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
end
local fields = {'state', ARGV[3]}
if ARGV[3] == 'pending' then
  fields[3], fields[4] = 'pending_since', ARGV[5]
end
if ARGV[4] ~= '' then
  fields[#fields + 1], fields[#fields + 2] = 'msg', ARGV[4]
end
redis.call('HSET', KEYS[4], unpack(fields))
return {4, 1}
