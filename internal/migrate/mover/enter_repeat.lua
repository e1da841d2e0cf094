-- Makes a schedule of redisopt's own out of one scheduler of Bull or BullMQ, and takes the job that waits
-- for its next run along as the first tick; or does neither.
-- KEYS  1 source repeat  2 the job's container  3 source priority index  4 hash of the schedules
--       5 the job at asynq  6 where it goes there  7 ledger counts  8 ledger schedulers  9 fence
-- ARGV  1 fence token  2 source prefix  3 member  4 next run  5 job id  6 new job id
--       7 container: z or l  8 the job's score there  9 what was seen of the job  10 its data
--      11 what was seen of the scheduler hash, whose key is  12, or both empty  13 schedule  14 the schedule as JSON
--      15 its mark, seconds  16 message of the job  17 what the state is called  18 target score or empty
--      19 moved_from  20 schema  21 channel of the bell  22 ledger line  23 counter  24 losses
--      25 number of job fields  26 of scheduler fields; then these
-- Returns m, or why nothing was done: g (not where it was seen), c (changed), l (locked), x (exists),
-- v (a newer program keeps the schedules).
local call = redis.call
if ARGV[1] ~= '' and call('GET', KEYS[9]) ~= ARGV[1] then
  return redis.error_reply('REDISOPT_FENCED the lease on this migration was lost')
end
local function see(key, first, count)
  local v = redis.pcall('HMGET', key, unpack(ARGV, first, first + count - 1))
  if v.err then return '\29' .. v.err end
  local any = false
  for k = 1, count do
    if v[k] then any = true else v[k] = '\31' end
  end
  if not any then return '' end
  return table.concat(v, '\30')
end
local function is(key, kind)
  local t = call('TYPE', key)
  t = t.ok or t
  return t == kind or (kind ~= 'string' and t == 'none')
end
local function score(key, m) return tonumber(call('ZSCORE', key, m) or 'none') end
local fields, hash, job = tonumber(ARGV[25]), tonumber(ARGV[26]), ARGV[2] .. ARGV[5]
if score(KEYS[1], ARGV[3]) ~= tonumber(ARGV[4]) then return 'g' end
if hash > 0 and see(ARGV[12], 27 + fields, hash) ~= ARGV[11] then return 'c' end
if ARGV[7] == 'z' and score(KEYS[2], ARGV[5]) ~= tonumber(ARGV[8]) then return 'g' end
if see(job, 27, fields) ~= ARGV[9] or call('HGET', job, 'data') ~= ARGV[10] then return 'c' end
if is(job .. ':lock', 'string') then return 'l' end
for _, expected in ipairs({ { 4, 'hash' }, { 6, ARGV[18] ~= '' and 'zset' or 'list' }, { 7, 'hash' }, { 8, 'hash' } }) do
  if not is(KEYS[expected[1]], expected[2]) then return redis.error_reply('REDISOPT_WRONGTYPE ' .. KEYS[expected[1]]) end
end
local schema = call('HGET', KEYS[4], 'schema')
if schema and (tonumber(schema) or 0) > tonumber(ARGV[20]) then return 'v' end
if call('HEXISTS', KEYS[4], 'schedule:' .. ARGV[13]) == 1 or call('EXISTS', KEYS[5]) == 1 then return 'x' end

if ARGV[7] == 'l' then
  if call('LREM', KEYS[2], 1, ARGV[5]) == 0 then return 'g' end
  redis.pcall('ZREM', KEYS[3], ARGV[5])
else
  call('ZREM', KEYS[2], ARGV[5])
end
call('RENAME', job, KEYS[5])
call('HSET', KEYS[5], 'msg', ARGV[16], 'state', ARGV[17], 'schedule', ARGV[13], 'moved_from', ARGV[19])
call('HDEL', KEYS[5], 'data')
if ARGV[18] ~= '' then
  call('ZADD', KEYS[6], ARGV[18], ARGV[6])
else
  call('HSET', KEYS[5], 'pending_since', call('HGET', KEYS[5], 'timestamp') .. '000000')
  call('RPUSH', KEYS[6], ARGV[6])
end
call('HSET', KEYS[4], 'schema', ARGV[20], 'schedule:' .. ARGV[13], ARGV[14], 'mark:' .. ARGV[13], ARGV[15])
local revision = call('HINCRBY', KEYS[4], 'revision', 1)
call('ZREM', KEYS[1], ARGV[3])
if ARGV[12] ~= '' then call('DEL', ARGV[12]) end
if ARGV[23] ~= '' then call('HINCRBY', KEYS[7], ARGV[23], 1) end
if ARGV[24] ~= '0' then call('HINCRBY', KEYS[7], 'losses', ARGV[24]) end
call('HSET', KEYS[8], ARGV[13], ARGV[22])
call('PUBLISH', ARGV[21], revision)
return 'm'
