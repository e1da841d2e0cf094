-- Looks at up to some dead letters of one band, and counts, tries again or removes those that a filter
-- chooses.
-- KEYS 1 archived  2 pending  3 prefix of the hashes
-- ARGV 1 count, retry or delete  2, 3 least and greatest score  4 name  5 part of the reason  6 schedule, each
--      empty for any  7 how many to pass over  8 how many to look at  9 now, Unix nanoseconds
--      10 life of a unique key, seconds  11 ... ids to look at instead of what the scores say
-- Answers the commands run, how many were looked at, and how many were chosen.
local calls = 0
local function call(...)
  calls = calls + 1
  return redis.call(...)
end

local function varint(s, i)
  local n, factor = 0, 1
  while true do
    local b = string.byte(s, i)
    if not b then
      return nil, i
    end
    n = n + (b % 128) * factor
    factor = factor * 128
    i = i + 1
    if b < 128 then
      return n, i
    end
  end
end

-- what reads the name and the reason out of a message.
local function what(s)
  local name, reason, i = '', '', 1
  while i <= #s do
    local tag, size
    tag, i = varint(s, i)
    if not tag then
      break
    end
    local field, kind = math.floor(tag / 8), tag % 8
    if kind == 0 then
      size, i = varint(s, i)
    elseif kind == 2 then
      size, i = varint(s, i)
      if not size then
        break
      end
      if field == 1 then
        name = string.sub(s, i, i + size - 1)
      elseif field == 7 then
        reason = string.sub(s, i, i + size - 1)
      end
      i = i + size
    elseif kind == 1 then
      i = i + 8
    elseif kind == 5 then
      i = i + 4
    else
      break
    end
  end
  return name, reason
end

local ids
if #ARGV > 10 then
  ids = {}
  for i = 11, #ARGV do
    local score = call('ZSCORE', KEYS[1], ARGV[i])
    if score and tonumber(score) >= tonumber(ARGV[2]) and tonumber(score) <= tonumber(ARGV[3]) then
      ids[#ids + 1] = ARGV[i]
    end
  end
else
  ids = call('ZRANGEBYSCORE', KEYS[1], ARGV[2], ARGV[3], 'LIMIT', ARGV[7], ARGV[8])
end
local chosen = 0
for _, id in ipairs(ids) do
  local task = KEYS[3] .. id
  local fits = true
  if ARGV[4] ~= '' or ARGV[5] ~= '' or ARGV[6] ~= '' then
    local got = call('HMGET', task, 'msg', 'schedule')
    local name, reason = what(got[1] or '')
    fits = (ARGV[4] == '' or name == ARGV[4]) and (ARGV[5] == '' or string.find(reason, ARGV[5], 1, true) ~= nil)
      and (ARGV[6] == '' or got[2] == ARGV[6])
  end
  if fits then
    chosen = chosen + 1
    if ARGV[1] == 'retry' then
      -- What has lost its message could be taken and never be ended.
      local kept = call('HMGET', task, 'msg', 'unique_key')
      if kept[1] then
        if kept[2] then
          call('SET', kept[2], id, 'NX', 'EX', ARGV[10])
        end
        call('HSET', task, 'state', 'pending', 'pending_since', ARGV[9])
        call('LPUSH', KEYS[2], id)
      end
      call('ZREM', KEYS[1], id)
    elseif ARGV[1] == 'delete' then
      local lock = call('HGET', task, 'unique_key')
      if lock and call('GET', lock) == id then
        call('DEL', lock)
      end
      call('ZREM', KEYS[1], id)
      call('DEL', task)
    end
  end
end
return {calls, #ids, chosen}
