-- Moves one scheduler together with the job that waits for its next run, or neither.
-- KEYS  1 source repeat  2 target repeat  3 the job's container at the source  4 target wait
--       5 target paused  6 target pause flag  7 target marker  8 target prioritized or priority
--       9 target pc  10 target delayed  11 source priority index  12 ledger counts
--      13 ledger schedulers  14 fence
-- ARGV  1 fence token  2 source prefix  3 target prefix  4 target: 4 5 6  5 member  6 next run
--       7 new member  8 job id  9 new job id  10 container: z or l  11 the job's score there
--      12 how it is put: z (delayed), r (pushed right), p (prioritized), = (stays in its list)
--      13 priority  14 what was seen of the job  15 what was seen of the scheduler hash
--      16 scheduler hash to delete  17 scheduler hash to write  18 ledger line  19 counter
--      20 losses  21 undoing  22 only drop the scheduler  23 how many job fields, 24 scheduler fields,
--      25 HSET words, 26 HDEL words, 27 words of the new scheduler hash; then all of these
-- Returns m, or why nothing was done: g (not where it was seen), c (changed), l (locked), x (exists).
local call = redis.call
if ARGV[1] ~= '' and call('GET', KEYS[14]) ~= ARGV[1] then
  return redis.error_reply('REDISOPT_FENCED the lease on this migration was lost')
end
local from, to, target = ARGV[2], ARGV[3], ARGV[4]
local member, due, id, new, kind, put = ARGV[5], ARGV[6], ARGV[8], ARGV[9], ARGV[10], ARGV[12]
local counts, at, words = {}, 28, {}
for i = 1, 5 do
  counts[i] = tonumber(ARGV[22 + i])
  words[i] = at
  at = at + counts[i]
end
local function list(i) return unpack(ARGV, words[i], words[i] + counts[i] - 1) end
local function see(key, i)
  local v = redis.pcall('HMGET', key, list(i))
  if v.err then return '\29' .. v.err end
  local any = false
  for k = 1, counts[i] do
    if v[k] then any = true else v[k] = '\31' end
  end
  if not any then return '' end
  return table.concat(v, '\30')
end

-- Whether a key is of a type: a job may be called like the lock or the logs of another, and is a hash.
local function is(key, kind)
  local t = call('TYPE', key)
  return (t.ok or t) == kind
end

-- Scores are compared as numbers: servers differ in how they write them.
local function score(key, m) return tonumber(call('ZSCORE', key, m) or 'none') end
if score(KEYS[1], member) ~= tonumber(due) then return 'g' end
if counts[2] > 0 and see(from .. 'repeat:' .. member, 2) ~= ARGV[15] then return 'c' end
if ARGV[22] == '1' then
  call('ZREM', KEYS[1], member)
  if ARGV[16] ~= '' then call('DEL', from .. ARGV[16]) end
  return 'm'
end
if kind == 'z' and score(KEYS[3], id) ~= tonumber(ARGV[11]) then return 'g' end
if see(from .. id, 1) ~= ARGV[14] then return 'c' end
if is(from .. id .. ':lock', 'string') then return 'l' end
if (from ~= to or ARGV[7] ~= member) and call('ZSCORE', KEYS[2], ARGV[7]) then return 'x' end
if ARGV[17] ~= '' and ARGV[17] ~= ARGV[16] and call('EXISTS', to .. ARGV[17]) == 1 then return 'x' end
local other = from ~= to or id ~= new
if other and call('EXISTS', to .. new, to .. new .. ':logs') > 0 then return 'x' end

local function expect(key, want)
  local t = call('TYPE', key)
  t = t.ok or t
  return t == 'none' or t == want
end
local checks = { { KEYS[2], 'zset' }, { KEYS[4], 'list' }, { KEYS[5], 'list' }, { KEYS[8], 'zset' }, { KEYS[10], 'zset' } }
if target ~= '4' then
  checks[6] = { KEYS[6], 'hash' }
  checks[7] = { KEYS[7], 'zset' }
  checks[8] = { KEYS[9], 'string' }
  if not string.find(call('GET', KEYS[9]) or '0', '^%d+$') then return redis.error_reply('REDISOPT_WRONGTYPE ' .. KEYS[9]) end
end
for i = 1, #checks do
  if not expect(checks[i][1], checks[i][2]) then return redis.error_reply('REDISOPT_WRONGTYPE ' .. checks[i][1]) end
end
local paused
if target == '4' then
  paused = call('EXISTS', KEYS[6]) == 1
else
  paused = call('HEXISTS', KEYS[6], 'paused') == 1
end

-- Taking the job out of a list is the first write, and the check that it was there.
if kind == 'l' then
  if put == '=' then
    if id ~= new then
      if call('LINSERT', KEYS[3], 'BEFORE', id, new) < 1 then return 'g' end
      call('LREM', KEYS[3], 1, id)
    end
  elseif call('LREM', KEYS[3], 1, id) == 0 then
    return 'g'
  end
  redis.pcall('ZREM', KEYS[11], id) -- the index is Bull's; a BullMQ job may have its name
else
  call('ZREM', KEYS[3], id)
end
if other then
  call('RENAME', from .. id, to .. new)
  if is(from .. id .. ':logs', 'list') then call('RENAME', from .. id .. ':logs', to .. new .. ':logs') end
end
if counts[3] > 0 then call('HSET', to .. new, list(3)) end
if counts[4] > 0 then call('HDEL', to .. new, list(4)) end
if ARGV[16] ~= '' then call('DEL', from .. ARGV[16]) end
if ARGV[17] ~= '' then
  call('HSET', to .. ARGV[17], list(5))
  local data = call('HGET', to .. new, 'data')
  if data and data ~= '{}' then call('HSET', to .. ARGV[17], 'data', data) end
end
call('ZREM', KEYS[1], member)
call('ZADD', KEYS[2], due, ARGV[7])

local added = put == '='
if put == 'z' then
  call('ZADD', KEYS[10], ARGV[11], new)
  local first = call('ZRANGE', KEYS[10], 0, 0, 'WITHSCORES')
  local at = string.format('%.0f', math.floor(tonumber(first[2]) / 4096))
  if target == '4' then call('PUBLISH', KEYS[10], at) else call('ZADD', KEYS[7], at, '1') end
elseif put == 'p' then
  local n = call('INCR', KEYS[9])
  call('ZADD', KEYS[8], string.format('%.0f', tonumber(ARGV[13]) * 4294967296 + n % 4294967296), new)
  added = true
elseif put == 'r' then
  call('RPUSH', paused and target ~= '6' and KEYS[5] or KEYS[4], new)
  added = true
end
if target == '4' and ARGV[13] ~= '' and put ~= 'z' then call('ZADD', KEYS[8], ARGV[13], new) end
if target ~= '4' and added and not paused then call('ZADD', KEYS[7], 0, '0') end
if ARGV[19] ~= '' then call('HINCRBY', KEYS[12], ARGV[19], 1) end
if ARGV[20] ~= '0' then call('HINCRBY', KEYS[12], 'losses', ARGV[20]) end
if ARGV[18] ~= '' then call('HSET', KEYS[13], ARGV[7], ARGV[18]) end
if ARGV[21] == '1' then call('HDEL', KEYS[13], member) end
return 'm'
