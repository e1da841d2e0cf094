-- KEYS 1 a key   ARGV 1 its seal, or nothing to be told what it is
-- A seal that ends in + does not cover all values.
-- Answers the seal and what is left of its time to live in ms (-1: it does not expire), or with a seal: ''
-- when the key was as sealed and is unlinked, 'none' or 'changed'.
local most, ends = 1000, 100
local key = KEYS[1]
local kind = redis.call('TYPE', key)['ok']
if kind == 'none' then
  if ARGV[1] == '' then return {'none', -2} end
  return 'none'
end
local left = redis.call('PTTL', key)
local partial = ''
local parts = {kind, left >= 0 and 'expires' or 'stays'}
local function put(values)
  for _, v in ipairs(values) do
    parts[#parts + 1] = #v
    parts[#parts + 1] = v
  end
end
-- In no order: sorted by their digests, because servers sort texts as their locales have it.
local function bag(digests)
  table.sort(digests)
  put(digests)
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
  local found
  if size('ZCARD') <= most then
    found = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  else
    partial = '+'
    found = redis.call('ZRANGE', key, 0, ends - 1, 'WITHSCORES')
    for _, v in ipairs(redis.call('ZRANGE', key, -ends, -1, 'WITHSCORES')) do found[#found + 1] = v end
  end
  -- Servers write the same score in more and fewer digits.
  for i = 2, #found, 2 do
    local score = tonumber(found[i])
    if score then found[i] = string.format('%.17g', score) end
  end
  put(found)
elseif kind == 'set' then
  if size('SCARD') <= most then
    local members = redis.call('SMEMBERS', key)
    for i = 1, #members do members[i] = redis.sha1hex(members[i]) end
    bag(members)
  else
    partial = '+'
  end
elseif kind == 'hash' then
  if size('HLEN') <= most then
    local all, fields = redis.call('HGETALL', key), {}
    for i = 1, #all, 2 do fields[#fields + 1] = redis.sha1hex(#all[i] .. ' ' .. all[i] .. all[i + 1]) end
    bag(fields)
  else
    partial = '+'
  end
elseif kind == 'stream' then
  -- An entry never changes, so their number and both ends tell whether one came or went. Groups are told by
  -- how far they are and by what waits to be acknowledged, and by whom.
  if size('XLEN') > 0 then
    put({redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1][1], redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1][1]})
  end
  local groups = redis.call('XINFO', 'GROUPS', key)
  for _, fields in ipairs(groups) do
    local g = {}
    for i = 1, #fields, 2 do g[fields[i]] = fields[i + 1] end
    put({g['name'], tostring(g['pending']), g['last-delivered-id']})
    if g['pending'] > most then partial = '+' end
    if g['pending'] > 0 then
      for _, entry in ipairs(redis.call('XPENDING', key, g['name'], '-', '+', most)) do
        put({entry[1], entry[2], tostring(entry[4])})
      end
    end
  end
else
  put({string.sub(redis.call('DUMP', key), 1, -11)}) -- without the version of the server and its checksum
end
local seal = redis.sha1hex(table.concat(parts, '\0')) .. partial
if ARGV[1] == '' then return {seal, left} end
if ARGV[1] ~= seal then return 'changed' end
redis.call('UNLINK', key)
return ''
