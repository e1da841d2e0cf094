-- Carries over what must be in place before a job arrives: that the queue is paused, or on the way
-- back no longer is, and an id counter that cannot give out an id the source has given out.
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
call('HDEL', KEYS[8], 'finished') -- from here on there is something to finish again
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

-- Puts the ids of both lists under one name, those of wait left of those of paused, which are older.
-- The shorter list is the one that is copied.
local function gather(into)
  local wait, paused = KEYS[5], KEYS[6]
  local nw, np = call('LLEN', wait), call('LLEN', paused)
  local all = nw > 0 and wait or paused
  if nw > 0 and np > nw then
    for i = 1, nw do call('RPOPLPUSH', wait, paused) end
    all = paused
  elseif nw > 0 and np > 0 then
    for at = 0, np - 1, 1000 do call('RPUSH', wait, unpack(call('LRANGE', paused, at, at + 999))) end
    call('DEL', paused)
  end
  if nw + np > 0 and all ~= into then call('RENAME', all, into) end
end

-- A pause is carried over once, and so is its end on the way back: what somebody does to the target
-- later stands. The ledger knows what was carried.
local carried = call('HGET', KEYS[8], 'carried')
local back = call('HGET', KEYS[8], 'carried-back')
if ARGV[3] == '1' then
  local mine, field = carried, 'carried'
  if ARGV[5] == '1' then mine, field = back, 'carried-back' end
  if inplace or mine ~= '1' then
    local already
    if target == '4' then
      already = call('EXISTS', KEYS[3]) == 1
      if not already then call('SET', KEYS[3], '1') end
    else
      already = call('HEXISTS', KEYS[4], 'paused') == 1
    end
    call('HSET', KEYS[4], 'paused', '1')
    if target ~= '6' and (inplace or not already or target == '4') then gather(KEYS[6]) end
    if target ~= '4' and not already then call('ZREM', KEYS[7], '0') end
    call('HSET', KEYS[8], field, '1')
  end
elseif inplace then
  if call('EXISTS', KEYS[6]) == 1 then gather(KEYS[5]) end
elseif ARGV[5] == '0' then
  if carried then call('HSET', KEYS[8], 'carried', '0') end
else
  -- The pause that came from Bull, or from the target since, was ended at the target.
  if target == '4' and (carried == '1' or back == '1') then
    call('DEL', KEYS[3])
    call('HDEL', KEYS[4], 'paused')
    gather(KEYS[5])
  end
  if carried then call('HSET', KEYS[8], 'carried', '0') end
  if back then call('HSET', KEYS[8], 'carried-back', '0') end
end
return call('GET', KEYS[2]) or '0'
