-- KEYS 1 the container  2 groups
-- The word is what the state is called in the job's hash. ARGV 3 is the group.
typed(KEYS[1], word == 'pending' and 'list' or 'zset')
typed(KEYS[2], 'set')
return each(function(id, key, seal)
  local is = call('TYPE', key)['ok']
  if is ~= 'hash' and is ~= 'none' then return 'w' end
  if is == 'hash' then
    local state = call('HGET', key, 'state')
    if state == 'active' then return 'l' end
    if state ~= word then return 'c' end
  end
  if changed(key, seal) then return 'c' end
  local unique = call('HGET', key, 'unique_key')
  if word == 'pending' then
    if call('LREM', KEYS[1], 0, id) == 0 then return 'g' end
  elseif call('ZREM', KEYS[1], id) == 0 then
    return 'g'
  end
  if unique and unique ~= '' and call('GET', unique) == id then call('DEL', unique) end
  call('DEL', key)
  if token ~= '' and call('EXISTS', KEYS[1]) == 0 then call('SREM', KEYS[2], token) end
  return 'd'
end)
