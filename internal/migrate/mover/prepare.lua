-- Carries over what must be in place before the first job arrives: that the queue is paused, and an
-- id counter that cannot give out an id the source has given out.
-- KEYS 1 source id  2 target id  3 target pause flag  4 target meta  5 target wait  6 target paused
--      7 target marker  8 ledger counts  9 fence
-- ARGV 1 fence token  2 target: 4 5 6  3 pause: 1 or 0  4 headroom  5 undoing  6 in place
local call = redis.call
if ARGV[1] ~= '' and call('GET', KEYS[9]) ~= ARGV[1] then
  return redis.error_reply('REDISOPT_FENCED the lease on this migration was lost')
end
local kinds = { { 2, 'string' }, { 4, 'hash' }, { 5, 'list' }, { 6, 'list' }, { 7, 'zset' } }
for i = 1, #kinds do
  local t = call('TYPE', KEYS[kinds[i][1]])
  t = t.ok or t
  if t ~= 'none' and t ~= kinds[i][2] then
    return redis.error_reply('REDISOPT_WRONGTYPE ' .. KEYS[kinds[i][1]])
  end
end

local target, inplace = ARGV[2], ARGV[6] == '1'
if ARGV[5] == '0' then call('HSETNX', KEYS[8], 'paused', ARGV[3]) end
if not inplace then
  local source = tonumber(call('GET', KEYS[1])) or 0
  local have = tonumber(call('GET', KEYS[2])) or 0
  if ARGV[5] == '1' then
    -- Back: only if the target's counter was used since we seeded it.
    local seed = tonumber(call('HGET', KEYS[8], 'seed')) or 0
    if source > seed and source > have then call('SET', KEYS[2], string.format('%.0f', source)) end
  else
    local headroom = tonumber(ARGV[4])
    if have < source + headroom / 2 then
      local seed = string.format('%.0f', source + headroom)
      call('SET', KEYS[2], seed)
      call('HSET', KEYS[8], 'seed', seed)
    end
  end
end

if ARGV[3] == '1' then
  local already
  if target == '4' then
    already = call('EXISTS', KEYS[3]) == 1
    if not already then call('SET', KEYS[3], '1') end
  else
    already = call('HEXISTS', KEYS[4], 'paused') == 1
  end
  call('HSET', KEYS[4], 'paused', '1')
  if target ~= '6' and (not already or inplace) and call('EXISTS', KEYS[5]) == 1 and call('EXISTS', KEYS[6]) == 0 then
    call('RENAME', KEYS[5], KEYS[6])
  end
  if target ~= '4' and not already then call('ZREM', KEYS[7], '0') end
end
return call('GET', KEYS[2]) or '0'
