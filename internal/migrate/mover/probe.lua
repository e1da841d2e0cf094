-- Runs every kind of write a move needs on scratch keys of the same prefixes, so that a missing right
-- shows before the first job is touched. All scratch keys are deleted again in the same script.
-- KEYS 1-2 source scratch  3-4 target scratch  5 ledger scratch  6 fence
-- ARGV 1 fence token
if ARGV[1] ~= '' and redis.call('GET', KEYS[6]) ~= ARGV[1] then
  return redis.error_reply('REDISOPT_FENCED the lease on this migration was lost')
end
local problem = ''
local function try(...)
  local r = redis.pcall(...)
  if type(r) == 'table' and r.err and problem == '' then problem = r.err end
end
for i = 1, 5 do try('DEL', KEYS[i]) end
for i = 1, 3, 2 do
  local key, other = KEYS[i], KEYS[4 - i]
  try('HSET', key, 'a', '1')
  try('HMGET', key, 'a')
  try('RENAMENX', key, KEYS[i + 1])
  try('RENAME', KEYS[i + 1], other)
  try('HDEL', other, 'a')
  try('RPUSH', key, 'a', 'b')
  try('LPUSH', key, 'c')
  try('LINSERT', key, 'BEFORE', 'a', 'd')
  try('LSET', key, 0, 'e')
  try('LREM', key, 1, 'a')
  try('LTRIM', key, 1, -1)
  try('DEL', key)
  try('ZADD', key, 1, 'a')
  try('ZREM', key, 'a')
  try('SET', key, '1')
  try('INCR', key)
  try('PTTL', key)
  try('PUBLISH', key, '1')
  try('DEL', key)
end
try('HINCRBY', KEYS[5], 'a', 1)
try('HSETNX', KEYS[5], 'b', '1')
for i = 1, 5 do try('DEL', KEYS[i]) end
return problem
