-- KEYS 1 the container  2 repeat  3 meta  4 events
-- The word is list, active or zset; with + at its end the schedules of pending runs end too.
local kind, schedules = string.match(word, '^(%a+)(%+?)$')
typed(KEYS[1], kind == 'zset' and 'zset' or 'list')
typed(KEYS[2], 'zset')
typed(KEYS[3], 'hash')
typed(KEYS[4], 'stream')
if wrong then return redis.error_reply('REDISOPT_WRONGTYPE ' .. wrong) end
local longest = call('HGET', KEYS[3], 'opts.maxLenEvents') or 10000
local state = string.match(KEYS[1], '([^:]*)$')
return each(function(id, key, seal)
  if string.sub(id, 1, 2) == '0:' then return 'k' end
  local is = call('TYPE', key)['ok']
  if is ~= 'hash' and is ~= 'none' then return 'w' end
  if locked(key) then return 'l' end
  if changed(key, seal) then return 'c' end
  if call('EXISTS', key .. ':dependencies', key .. ':processed', key .. ':failed', key .. ':unsuccessful') > 0 then
    return 'f'
  end
  local job = call('HMGET', key, 'rjk', 'deid', 'parentKey')
  local parent = job[3]
  if parent and parent ~= '' and call('TYPE', parent)['ok'] == 'hash' and
    call('SISMEMBER', parent .. ':dependencies', key) == 1 then
    return 'p'
  end
  local next = pending(KEYS[2], job[1], id)
  if next and schedules == '' then return 's' end
  if kind == 'zset' then
    if call('ZREM', KEYS[1], id) == 0 then return 'g' end
  elseif call('LREM', KEYS[1], 1, id) == 0 then
    return 'g'
  end
  if next then
    call('ZREM', KEYS[2], job[1])
    call('DEL', KEYS[2] .. ':' .. job[1])
  end
  if job[2] and call('GET', base .. 'de:' .. job[2]) == id then
    call('DEL', base .. 'de:' .. job[2], base .. 'dn:' .. job[2])
  end
  call('DEL', key)
  if call('TYPE', key .. ':logs')['ok'] == 'list' then call('DEL', key .. ':logs') end
  call('XADD', KEYS[4], 'MAXLEN', '~', longest, '*', 'event', 'removed', 'jobId', id, 'prev', state)
  return 'd'
end)
