-- KEYS 1 a key   ARGV 1 its seal, or nothing to be told what it is
-- A seal that ends in + does not cover all values.
-- Answers the seal, or with a seal: '' when the key was as sealed and is unlinked, 'none' or 'changed'.
local most, ends = 1000, 100
local key = KEYS[1]
local kind = redis.call('TYPE', key)['ok']
if kind == 'none' then return 'none' end
local partial = ''
local parts = {kind, redis.call('PTTL', key) >= 0 and 'expires' or 'stays'}
local function put(values)
  for _, v in ipairs(values) do
    parts[#parts + 1] = #v
    parts[#parts + 1] = v
  end
end
local function size(verb)
  local n = redis.call(verb, key)
  parts[#parts + 1] = n
  return n
end
if kind == 'string' then
  local n = size('STRLEN')
  if n <= 65536 then
    put({redis.call('GET', key)})
  else
    partial = '+'
    put({redis.call('GETRANGE', key, 0, 4095), redis.call('GETRANGE', key, -4096, -1)})
  end
elseif kind == 'list' then
  if size('LLEN') <= most then
    put(redis.call('LRANGE', key, 0, -1))
  else
    partial = '+'
    put(redis.call('LRANGE', key, 0, ends - 1))
    put(redis.call('LRANGE', key, -ends, -1))
  end
elseif kind == 'zset' then
  if size('ZCARD') <= most then
    put(redis.call('ZRANGE', key, 0, -1, 'WITHSCORES'))
  else
    partial = '+'
    put(redis.call('ZRANGE', key, 0, ends - 1, 'WITHSCORES'))
    put(redis.call('ZRANGE', key, -ends, -1, 'WITHSCORES'))
  end
elseif kind == 'set' then
  if size('SCARD') <= most then
    local members = redis.call('SMEMBERS', key)
    table.sort(members)
    put(members)
  else
    partial = '+'
  end
elseif kind == 'hash' then
  if size('HLEN') <= most then
    local all, fields = redis.call('HGETALL', key), {}
    for i = 1, #all, 2 do fields[#fields + 1] = #all[i] .. ' ' .. all[i] .. all[i + 1] end
    table.sort(fields)
    put(fields)
  else
    partial = '+'
  end
elseif kind == 'stream' then
  size('XLEN')
  local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)
  if last[1] then put({last[1][1]}) end
else
  put({redis.call('DUMP', key)})
end
local seal = redis.sha1hex(table.concat(parts, '\0')) .. partial
if ARGV[1] == '' then return seal end
if ARGV[1] ~= seal then return 'changed' end
redis.call('UNLINK', key)
return ''
