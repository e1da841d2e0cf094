-- KEYS 1 failed or completed  2 wait  3 paused  4 meta  5 active  6 marker  7 prioritized  8 pc  9 events
-- The word is the state they come from.
typed(KEYS[1], 'zset')
typed(KEYS[2], 'list')
typed(KEYS[3], 'list')
typed(KEYS[4], 'hash')
typed(KEYS[5], 'list')
typed(KEYS[6], 'zset')
typed(KEYS[7], 'zset')
typed(KEYS[8], 'string')
typed(KEYS[9], 'stream')
if wrong then return redis.error_reply('REDISOPT_WRONGTYPE ' .. wrong) end
call('ZREM', KEYS[1], '') -- whoever may not run it fails here, before a job is in both places
local six = tonumber(ARGV[4]) >= 6
local result = word == 'failed' and 'failedReason' or 'returnvalue'
local about = call('HMGET', KEYS[4], 'paused', 'concurrency', 'opts.maxLenEvents')
local quiet = about[1] or (about[2] and call('LLEN', KEYS[5]) >= tonumber(about[2]))
local list = about[1] and not six and KEYS[3] or KEYS[2]
return each(function(id, key, seal)
  if not call('ZSCORE', KEYS[1], id) then return 'g' end
  local is = call('TYPE', key)['ok']
  if is ~= 'hash' then return is == 'none' and 'm' or 'w' end
  if locked(key) then return 'l' end
  if changed(key, seal) then return 'c' end
  local job = call('HMGET', key, 'opts', 'priority', 'parentKey')
  local priority = six and tonumber(job[2]) or 0
  if priority > 0 then
    call('ZADD', KEYS[7], priority * 0x100000000 + call('INCR', KEYS[8]) % 0x100000000, id)
  else
    call(json(job[1]).lifo and 'RPUSH' or 'LPUSH', list, id)
  end
  call('ZREM', KEYS[1], id) -- it is in its new place already
  call('HDEL', key, 'finishedOn', 'processedOn', result)
  if not quiet then call('ZADD', KEYS[6], 0, '0') end
  local parent = job[3]
  if parent and parent ~= '' and call('TYPE', parent)['ok'] == 'hash' then
    local waits
    if word == 'failed' then
      waits = call('ZREM', parent .. ':unsuccessful', key) == 1 or call('HDEL', parent .. ':failed', key) == 1
    else
      waits = call('HDEL', parent .. ':processed', key) == 1
    end
    if waits then call('SADD', parent .. ':dependencies', key) end
  end
  call('XADD', KEYS[9], 'MAXLEN', '~', about[3] or 10000, '*', 'event', 'waiting', 'jobId', id, 'prev', word)
  return 'd'
end)
