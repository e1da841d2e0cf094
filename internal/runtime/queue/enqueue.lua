-- Adds jobs to one band. Nothing is changed for a job that is refused, and the first write of a job is one
-- that a Redis without memory refuses, so that a job is added whole or not at all.
--
-- KEYS 1 pending  2 paused  3 scheduled, then for each job: its own hash, the hashes under which the same id
--      would be in the other bands, and the lock of its unique key if it has one
-- ARGV 1 now, Unix nanoseconds  2 most that may wait while paused, -1: any  3 "1" when paused by control
--      then for each job: id, message, score or "", number of hashes, life of the lock or "", "1" for once,
--      schedule or ""
--
-- Answers the number of commands run, then for each job {1}, {0, id, state} for an id that is there,
-- {-1, id, state} for a unique key that is held, {-2} for a backlog that is full.
local calls = 0
local function call(...)
  calls = calls + 1
  return redis.call(...)
end

local function ended(state) return state == 'archived' or state == 'completed' end

local out, room, added = {}, nil, 0
local k, a = 4, 4

local function space()
  if room == nil then
    room = 1 / 0
    if tonumber(ARGV[2]) >= 0 and (ARGV[3] == '1' or call('EXISTS', KEYS[2]) == 1) then
      room = tonumber(ARGV[2]) - call('LLEN', KEYS[1])
    end
  end
  return room
end

local function add(id, message, score, hashes, life, once, schedule)
  local task = KEYS[k]
  local there
  if hashes == 3 then
    there = call('EXISTS', task, KEYS[k + 1], KEYS[k + 2], KEYS[2])
  else
    there = call('EXISTS', task, KEYS[2])
  end
  local stale = {}
  if there > 0 then
    for i = 0, hashes - 1 do
      local state = call('HGET', KEYS[k + i], 'state')
      if state and (once or not ended(state)) then
        return {0, id, state}
      end
      if state then
        stale[#stale + 1] = {KEYS[k + i], state}
      end
    end
  end
  if (there > 0 or ARGV[3] == '1') and space() <= added then
    return {-2}
  end
  if life ~= '' then
    local lock = KEYS[k + hashes]
    if not call('SET', lock, id, 'NX', 'EX', life) then
      local holder = call('GET', lock)
      for i = 0, hashes - 1 do
        local prefix = string.sub(KEYS[k + i], 1, -#id - 1)
        local held = holder and call('HMGET', prefix .. holder, 'state', 'unique_key') or {}
        -- A job that died with the key may have been added again without it.
        if held[1] and held[2] == lock and (once or not ended(held[1])) then
          return {-1, holder, held[1]}
        end
      end
      call('SET', lock, id, 'EX', life)
    end
  end
  local fields = {'msg', message, 'state', 'pending'}
  if score ~= '' then
    fields[4] = 'scheduled'
  else
    fields[5], fields[6] = 'pending_since', ARGV[1]
  end
  if life ~= '' then
    fields[#fields + 1], fields[#fields + 2] = 'unique_key', KEYS[k + hashes]
  end
  if schedule ~= '' then
    fields[#fields + 1], fields[#fields + 2] = 'schedule', schedule
  end
  local leftover = {}
  if life == '' then
    leftover[1] = 'unique_key'
  end
  if schedule == '' then
    leftover[#leftover + 1] = 'schedule'
  end
  if score ~= '' then
    leftover[#leftover + 1] = 'pending_since'
  end
  call('HSET', task, unpack(fields))
  for _, old in ipairs(stale) do
    call('ZREM', string.sub(old[1], 1, -#id - 3) .. old[2], id)
    if old[1] == task then
      call('HDEL', task, 'result', 'progress', 'items', unpack(leftover))
    else
      call('DEL', old[1])
    end
  end
  if score ~= '' then
    call('ZADD', KEYS[3], score, id)
  else
    call('LPUSH', KEYS[1], id)
  end
  added = added + 1
  return {1}
end

while a <= #ARGV do
  local hashes = tonumber(ARGV[a + 3])
  local life = ARGV[a + 4]
  out[#out + 1] = add(ARGV[a], ARGV[a + 1], ARGV[a + 2], hashes, life, ARGV[a + 5] == '1', ARGV[a + 6])
  k = k + hashes
  if life ~= '' then
    k = k + 1
  end
  a = a + 7
end
table.insert(out, 1, calls)
return out
