-- Makes a scheduler of Bull or BullMQ out of one schedule of redisopt's own, with the job that waits for its
-- next run, in the place of the tick that waits at asynq; or does neither.
-- KEYS  1 hash of the schedules  2 target repeat  3 target delayed  4 target marker  5 ledger counts
--       6 ledger schedulers  7 fence  8 the tick at asynq  9 asynq's scheduled
--      Without a job id the tick is due already, and stays at asynq for the move of those that wait.
-- ARGV  1 fence token  2 target prefix  3 target: 4 5 6  4 schedule  5 the schedule as JSON  6 member
--       7 next run  8 job id  9 the job's score  10 key of the scheduler hash or empty  11 id of the tick, or
--      empty where none waits  12 channel of the bell  13 counter  14 losses  15 number of words of the job
--      16 of the scheduler hash; then these
-- Returns m, or why nothing was done: g (gone), c (changed), x (exists).
local call = redis.call
if ARGV[1] ~= '' and call('GET', KEYS[7]) ~= ARGV[1] then
  return redis.error_reply('REDISOPT_FENCED the lease on this migration was lost')
end
local function is(key, kind)
  local t = call('TYPE', key)
  t = t.ok or t
  return t == kind or t == 'none'
end
local raw = call('HGET', KEYS[1], 'schedule:' .. ARGV[4])
if not raw then return 'g' end
if raw ~= ARGV[5] then return 'c' end
local due = ARGV[8] == ''
if due then
  if call('HGET', KEYS[8], 'state') ~= 'pending' then return 'c' end
elseif ARGV[11] ~= '' and not call('ZSCORE', KEYS[9], ARGV[11]) then
  return 'c'
end
local job = ARGV[2] .. ARGV[8]
if call('ZSCORE', KEYS[2], ARGV[6]) or (not due and call('EXISTS', job) == 1) then return 'x' end
if ARGV[10] ~= '' and call('EXISTS', ARGV[10]) == 1 then return 'x' end
for _, expected in ipairs({ { 2, 'zset' }, { 3, 'zset' }, { 4, 'zset' }, { 5, 'hash' }, { 6, 'hash' } }) do
  if not is(KEYS[expected[1]], expected[2]) then return redis.error_reply('REDISOPT_WRONGTYPE ' .. KEYS[expected[1]]) end
end
local words, more = tonumber(ARGV[15]), tonumber(ARGV[16])
if not due then call('HSET', job, unpack(ARGV, 17, 16 + words)) end
if more > 0 then call('HSET', ARGV[10], unpack(ARGV, 17 + words, 16 + words + more)) end
call('ZADD', KEYS[2], ARGV[7], ARGV[6])
if not due then
  if ARGV[11] ~= '' then
    call('ZREM', KEYS[9], ARGV[11])
    call('DEL', KEYS[8])
  end
  call('ZADD', KEYS[3], ARGV[9], ARGV[8])
  local first = call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
  local at = string.format('%.0f', math.floor(tonumber(first[2]) / 4096))
  if ARGV[3] == '4' then call('PUBLISH', KEYS[3], at) else call('ZADD', KEYS[4], at, '1') end
end
call('HDEL', KEYS[1], 'schedule:' .. ARGV[4], 'mark:' .. ARGV[4])
call('PUBLISH', ARGV[12], call('HINCRBY', KEYS[1], 'revision', 1))
if ARGV[13] ~= '' and not due then call('HINCRBY', KEYS[5], ARGV[13], 1) end
if ARGV[14] ~= '0' then call('HINCRBY', KEYS[5], 'losses', ARGV[14]) end
call('HDEL', KEYS[6], ARGV[4])
return 'm'
