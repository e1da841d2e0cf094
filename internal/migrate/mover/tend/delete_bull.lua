-- KEYS 1 the container  2 priority  3 limiter:index  4 repeat  5 stalled
-- The word is list, active or zset; with + at its end the schedules of pending runs end too.
local kind, schedules = string.match(word, '^(%a+)(%+?)$')
typed(KEYS[1], kind == 'zset' and 'zset' or 'list')
typed(KEYS[2], 'zset')
typed(KEYS[3], 'hash')
typed(KEYS[4], 'zset')
typed(KEYS[5], 'set')
return each(function(id, key, seal)
  local is = call('TYPE', key)['ok']
  if is ~= 'hash' and is ~= 'none' then return 'w' end
  if locked(key) then return 'l' end
  -- A worker takes a job first and locks it after. What the library saw active without a lock before
  -- is left by a worker that is gone.
  if kind == 'active' and call('SISMEMBER', KEYS[5], id) == 0 then return 'a' end
  if changed(key, seal) then return 'c' end
  local job = call('HMGET', key, 'opts', 'deid')
  local again = json(job[1])['repeat']
  local schedule = type(again) == 'table' and again.key
  local next = pending(KEYS[4], schedule, id)
  if next and schedules == '' then return 's' end
  if kind == 'zset' then
    if call('ZREM', KEYS[1], id) == 0 then return 'g' end
  elseif call('LREM', KEYS[1], 0, id) == 0 then
    return 'g'
  end
  if next then call('ZREM', KEYS[4], schedule) end
  call('ZREM', KEYS[2], id)
  if job[2] and call('GET', base .. 'de:' .. job[2]) == id then call('DEL', base .. 'de:' .. job[2]) end
  call('DEL', key)
  if call('TYPE', key .. ':logs')['ok'] == 'list' then call('DEL', key .. ':logs') end
  local limited = call('HGET', KEYS[3], id)
  if limited then
    call('SREM', limited, id)
    call('HDEL', KEYS[3], id)
  end
  return 'd'
end)
