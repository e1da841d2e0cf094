-- KEYS 1 archived, retry, scheduled, or a group  2 pending  3 groups
-- The word is what the state is called in the job's hash. ARGV 3 is the group.
typed(KEYS[1], 'zset')
typed(KEYS[2], 'list')
typed(KEYS[3], 'set')
if not wrong then call('ZREM', KEYS[1], '') end -- whoever may not run it fails here, before a job is in both places
return each(function(id, key, seal)
  if not call('ZSCORE', KEYS[1], id) then return 'g' end
  local is = call('TYPE', key)['ok']
  if is ~= 'hash' then return is == 'none' and 'm' or 'w' end
  if call('HGET', key, 'state') ~= word then return 'c' end
  if changed(key, seal) then return 'c' end
  call('LPUSH', KEYS[2], id) -- first there: a refused ZREM then leaves it in both, never in none
  call('ZREM', KEYS[1], id)
  call('HSET', key, 'state', 'pending', 'pending_since', now)
  if token ~= '' and call('EXISTS', KEYS[1]) == 0 then call('SREM', KEYS[3], token) end
  return 'd'
end)
