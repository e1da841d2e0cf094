-- Moves one chunk of jobs of Bull or BullMQ to asynq and returns the next window of the source container:
-- move.lua says how such a script is to be read. The hash of a job is renamed, so that what asynq has no
-- place for stays with it; its data becomes the payload of the message, byte for byte.
--
-- KEYS  1 source container   2-4 target container in the bands normal, high, low
--       5 source priority index   6 source repeat   7 source pause flag
--       8 target pause flag       9 ledger counts  10 fence
-- ARGV  1 fence token  2 source prefix  3-5 prefixes of the target's jobs, by band  6 counter
--       7 how to read: R L Z H  8 how to write: l r z  9 how many to skip  10 window wanted
--      11 what the state is called  12 what marks a job as moved: layout and state, with a blank behind
--      13 source: 4 5 6  14 what ids from the counter begin with  15 prefix of locks
--      16 number of shapes  17 number of fields
--      then the shapes (opts before and after the timestamp, then the other fields, absent ones as \31;
--      message before the payload and behind the id, up to the timestamp and from there; band),
--      the names of the fields (opts, timestamp, others), the number of claims, and for each claim:
--      id, new id, action (m move, h stay), score, band, target score, dedup id, scheduler key, what was
--      seen, message before the payload and behind the id, losses
-- Returns what move.lua does.
local call = redis.call
if ARGV[1] ~= '' and call('GET', KEYS[10]) ~= ARGV[1] then
  return redis.error_reply('REDISOPT_FENCED the lease on this migration was lost')
end
local from, task, how, put, word = ARGV[2], { ARGV[3], ARGV[4], ARGV[5] }, ARGV[7], ARGV[8], ARGV[11]
local skip, want = tonumber(ARGV[9]), tonumber(ARGV[10])
local mark, own, locks = ARGV[12], ARGV[14], ARGV[15]
local isList, ended = how == 'R' or how == 'L', word == 'completed' or word == 'archived'
local shapes, ns, nf, at = {}, tonumber(ARGV[16]), tonumber(ARGV[17]), 17
for i = 1, ns do
  local shape = {}
  for k = 1, nf do shape[k] = ARGV[at + k] ~= '\31' and ARGV[at + k] end
  at = at + nf
  shape.head, shape.tail, shape.rest, shape.band = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], tonumber(ARGV[at + 4])
  shapes[i] = shape
  at = at + 4
end
local fields = {}
for i = 1, nf do fields[i] = ARGV[at + i] end
fields[nf + 1] = 'data'
fields[nf + 2] = word == 'completed' and 'returnvalue' or nil
at = at + nf + 1
local n = tonumber(ARGV[at])
local join, sub, find, char, floor = table.concat, string.sub, string.find, string.char, math.floor

-- A number as protocol buffers write it.
local function varint(v)
  local s = ''
  while v >= 128 do
    s = s .. char(v % 128 + 128)
    v = floor(v / 128)
  end
  return s .. char(v)
end

local function message(head, data, id, tail)
  if data and #data > 0 then head = head .. '\18' .. varint(#data) .. data end
  return head .. '\26' .. varint(#id) .. id .. tail
end

-- What a hash shows, and its data and result.
local function see(id)
  local v = redis.pcall('HMGET', from .. id, unpack(fields))
  if v.err then return '\29' .. v.err end
  local any, data, result = false, v[nf + 1], v[nf + 2]
  v[nf + 1], v[nf + 2] = nil, nil
  for i = 1, nf do
    if v[i] then any = true else v[i] = '\31' end
  end
  if not any then return '' end
  return join(v, '\30', 1, nf), data, result
end

local function is(key, kind)
  local t = call('TYPE', key)
  return (t.ok or t) == kind
end

-- The shape of a job that needs no look: its id came from the counter, and all but the time is known.
local function plainShape(id)
  if #id > 14 or not find(id, '^[1-9]%d*$') then return end
  local v = redis.pcall('HMGET', from .. id, unpack(fields))
  if v.err or not v[2] or #v[2] ~= 13 or not find(v[2], '^[1-9]%d+$') or not v[nf + 1] then return end
  for i = 1, ns do
    local shape = shapes[i]
    if v[1] == shape[1] .. v[2] .. shape[2] then
      local k = 3
      while k <= nf and v[k] == shape[k] do k = k + 1 end
      if k > nf then return shape, v[nf + 1], v[2] end
    end
  end
end

local function window(off, count)
  if count < 1 then return {}, {} end
  local ids, scores = {}, {}
  if how == 'L' then
    return call('LRANGE', KEYS[1], off, off + count - 1), scores
  elseif how == 'R' then
    local raw = call('LRANGE', KEYS[1], -(off + count), -(off + 1))
    local len = #raw
    for i = 1, len do ids[i] = raw[len + 1 - i] end
    return ids, scores
  end
  local raw = call(how == 'Z' and 'ZRANGE' or 'ZREVRANGE', KEYS[1], off, off + count - 1, 'WITHSCORES')
  for i = 1, #raw, 2 do
    ids[#ids + 1] = raw[i]
    scores[#ids] = raw[i + 1]
  end
  return ids, scores
end

if put ~= 'z' then
  local stopped
  if ARGV[13] == '4' then stopped = call('EXISTS', KEYS[7]) == 1 else stopped = call('HEXISTS', KEYS[7], 'paused') == 1 end
  if stopped and call('EXISTS', KEYS[8]) == 0 and call('HGET', KEYS[9], 'carried') ~= '1' then
    return redis.error_reply('REDISOPT_PAUSED the source is paused')
  end
end

local status, plain, clash, all = {}, 0, {}, false
if n > 0 or ns > 0 then
  local claim, p = {}, at + 1
  for i = 1, n do
    status[i] = 'g'
    claim[ARGV[p]] = { p, i }
    p = p + 12
  end
  local bad = ''
  local function expect(key, kind)
    local t = call('TYPE', key)
    t = t.ok or t
    if t ~= 'none' and t ~= kind then bad = key end
  end
  for i = 2, 4 do expect(KEYS[i], put == 'z' and 'zset' or 'list') end
  if ARGV[13] == '4' and isList then expect(KEYS[5], 'zset') end
  expect(KEYS[9], 'hash')
  if bad ~= '' then return redis.error_reply('REDISOPT_WRONGTYPE ' .. bad) end

  local reach = ns > 0 and want > n and want or n
  local ids, scores = window(skip, reach)
  if how == 'L' and n > 0 and ids[1] and not claim[ids[1]] then
    local far = call('LRANGE', KEYS[1], skip, skip + n + 2000)
    for i = 1, #far do
      if claim[far[i]] then
        skip = skip + i - 1
        ids = window(skip, reach)
        break
      end
    end
  end
  local side, sides = {}, false
  for i = 1, #ids do side[i] = from .. ids[i] .. ':lock' end
  if #side > 0 then sides = call('EXISTS', unpack(side)) > 0 end

  local stays, taken, picks = 0, {}, {}
  for i = 1, #ids do
    local id = ids[i]
    local c, code = claim[id], nil
    if taken[id] then
      c = nil
    elseif c then
      claim[id] = nil
      local o = c[1]
      local seen, data, result = see(id)
      if (not isList and scores[i] ~= ARGV[o + 3]) or seen ~= ARGV[o + 8] then
        code = 'c'
      elseif sides and is(from .. id .. ':lock', 'string') then
        code = 'l'
      else
        code = ARGV[o + 2]
        if ARGV[o + 7] ~= '' then
          local due = call('ZSCORE', KEYS[6], ARGV[o + 7])
          due = due and ':' .. string.format('%.0f', tonumber(due))
          if due and sub(id, -#due) == due then code = 's' end
        end
      end
      status[c[2]] = code
      if code == 'm' then
        picks[#picks + 1] = {
          id = id, new = ARGV[o + 1], score = scores[i], claim = c[2], o = o, band = tonumber(ARGV[o + 4]), result = result,
          data = data, message = message(ARGV[o + 9], data, ARGV[o + 1], ARGV[o + 10]),
        }
        taken[id] = true
      elseif code ~= 'c' then
        stays = stays + 1
      end
    elseif ns > 0 then
      local shape, data, time = plainShape(id)
      if shape and not (sides and is(from .. id .. ':lock', 'string')) then
        code = 'm'
        local new = own .. id
        picks[#picks + 1] = {
          id = id, new = new, band = shape.band, data = data, since = time,
          message = message(shape.head, data, new, shape.tail .. time .. shape.rest),
        }
        taken[id] = true
      end
    end
    if isList and (not code or code == 'c') then break end
  end

  -- From here on everything is written, the hashes first: a target that exists is a collision.
  local moved, losses, gone, add, added = 0, 0, {}, { {}, {}, {} }, 0
  for i = 1, #picks do
    local k = picks[i]
    local key, taken = task[k.band + 1] .. k.new, 0
    if k.o then
      local others = {}
      for b = 1, 3 do
        if b ~= k.band + 1 then others[#others + 1] = task[b] .. k.new end
      end
      taken = call('EXISTS', unpack(others))
    end
    if taken > 0 or call('RENAMENX', from .. k.id, key) == 0 then
      stays = stays + 1
      if k.o then status[k.claim] = 'x' else clash[#clash + 1] = k.id end
    else
      moved = moved + 1
      if k.o then losses = losses + tonumber(ARGV[k.o + 11]) else plain = plain + 1 end
      local set = {
        'msg', k.message, 'state', word, 'moved_from',
        mark .. (k.score or '-') .. ' ' .. (k.data and '1' or '0') .. ' ' .. k.id,
      }
      if word == 'pending' then
        set[7], set[8] = 'pending_since', (k.since or call('HGET', key, 'timestamp')) .. '000000'
      end
      if k.result then
        set[#set + 1], set[#set + 2] = 'result', k.result
      end
      local de = k.o and ARGV[k.o + 6] or ''
      if de ~= '' and redis.pcall('GET', from .. 'de:' .. de) == k.id then
        local left = call('PTTL', from .. 'de:' .. de)
        local life = left > 0 and math.ceil(left / 1000) or 2592000
        if call('SET', locks .. de, k.new, 'NX', 'EX', string.format('%.0f', life)) then
          set[#set + 1], set[#set + 2] = 'unique_key', locks .. de
        end
        call('DEL', from .. 'de:' .. de)
      end
      call('HSET', key, unpack(set))
      call('HDEL', key, 'data', k.result and 'returnvalue' or 'data')
      gone[#gone + 1] = k.id
      local list = add[k.band + 1]
      if put == 'z' then list[#list + 1] = ARGV[k.o + 5] end
      list[#list + 1] = k.new
    end
  end
  all = plain > 0 and plain == #ids
  if #gone > 0 then
    if not isList then
      call('ZREM', KEYS[1], unpack(gone))
    elseif skip == 0 and stays == 0 and how == 'R' then
      call('LTRIM', KEYS[1], 0, -(#gone + 1))
    elseif skip == 0 and stays == 0 then
      call('LTRIM', KEYS[1], #gone, -1)
    else
      for i = 1, #gone do call('LREM', KEYS[1], how == 'R' and -1 or 1, gone[i]) end
    end
    if isList and ARGV[13] == '4' then call('ZREM', KEYS[5], unpack(gone)) end
  end
  for b = 1, 3 do
    if #add[b] > 0 then
      call(put == 'z' and 'ZADD' or put == 'l' and 'LPUSH' or 'RPUSH', KEYS[b + 1], unpack(add[b]))
    end
  end
  if moved > 0 then call('HINCRBY', KEYS[9], ARGV[6], moved) end
  if losses > 0 then call('HINCRBY', KEYS[9], 'losses', losses) end
  skip = skip + stays
end

local out = { skip, join(status), plain, #clash }
for i = 1, #clash do out[4 + i] = clash[i] end
if all then return out end
local ids, scores = window(skip, want)
local o = #out
for i = 1, #ids do
  out[o + 1] = ids[i]
  out[o + 2] = scores[i] or ''
  out[o + 3] = (see(ids[i]))
  out[o + 4] = ''
  o = o + 4
end
return out
