-- KEYS 1 failed  2 wait  3 paused  4 meta-paused
typed(KEYS[1], 'zset')
typed(KEYS[2], 'list')
typed(KEYS[3], 'list')
if not wrong then call('ZREM', KEYS[1], '') end -- whoever may not run it fails here, before a job is in both places
local target = KEYS[2]
if call('EXISTS', KEYS[4]) == 1 then target = KEYS[3] end
return each(function(id, key, seal)
  if not call('ZSCORE', KEYS[1], id) then return 'g' end
  local is = call('TYPE', key)['ok']
  if is ~= 'hash' then return is == 'none' and 'm' or 'w' end
  if locked(key) then return 'l' end
  if changed(key, seal) then return 'c' end
  local push = json(call('HGET', key, 'opts')).lifo and 'RPUSH' or 'LPUSH'
  call(push, target, id) -- first there: a refused ZREM then leaves it in both, never in none
  call('ZREM', KEYS[1], id)
  call('HDEL', key, 'finishedOn', 'processedOn', 'failedReason')
  call('HSET', key, 'retriedOn', now)
  call('PUBLISH', KEYS[2] .. 'ing@' .. token, id)
  return 'd'
end)
