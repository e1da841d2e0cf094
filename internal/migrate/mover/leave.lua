-- Moves one chunk of jobs of asynq to Bull or BullMQ and returns the next window of the source container:
-- move.lua says how such a script is to be read. The payload of the message becomes the job's data, byte
-- for byte; what was left in the hash when the job came is there still.
--
-- KEYS  1 source container   2 target container (for lists: wait)   3 target paused list
--       4 target pause flag (bullmq: meta; bull: meta-paused)       5 target marker
--       6 target prioritized (bullmq) or priority (bull)            7 target pc   8 target id
--       9 target delayed    10 source lease   11 ledger counts      12 fence   13 source pause flag
-- ARGV  1 fence token  2 prefix of the source's jobs  3 target prefix  4 counter  5 how to read: R L Z H
--       6 how to write: l (LPUSH) r (RPUSH) f (front) z (ZADD)     7 target: 4 5 6
--       8 how many to skip  9 window wanted  10 smallest allowed id counter  11 undoing: 1 or 0
--      12 of active jobs what a lease may be at most, seconds, to be nobody's  13 number of fields
--      then the names of the fields (the last is the message), the number of claims, and for each claim:
--      id, new id, action (m move, p move to prioritized, h stay), score, target score, priority, dedup id,
--      lock, what was seen, whether there is data, number of HSET words, number of HDEL words, number of
--      losses, the words
-- Returns what move.lua does.
local call = redis.call
if ARGV[1] ~= '' and call('GET', KEYS[12]) ~= ARGV[1] then
  return redis.error_reply('REDISOPT_FENCED the lease on this migration was lost')
end
local task, to, how, put, target = ARGV[2], ARGV[3], ARGV[5], ARGV[6], ARGV[7]
local skip, want, undoing = tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[11] == '1'
local isList, nf, at = how == 'R' or how == 'L', tonumber(ARGV[13]), 13
local fields = {}
for i = 1, nf do fields[i] = ARGV[at + i] end
at = at + nf + 1
local n = tonumber(ARGV[at])
local join, sub, byte, char, floor = table.concat, string.sub, string.byte, string.char, math.floor

-- Reads a number of protocol buffers at i; nil when there is none.
local function varint(s, i)
  local v, factor = 0, 1
  while true do
    local b = byte(s, i)
    if not b then return nil, i end
    v, factor, i = v + (b % 128) * factor, factor * 128, i + 1
    if b < 128 then return v, i end
  end
end

-- Parts a message into its payload and the rest.
local function cut(s)
  local rest, payload, i = {}, '', 1
  while i <= #s do
    local begin, tag, size = i, nil, nil
    tag, i = varint(s, i)
    if not tag then return '', s end
    local kind = tag % 8
    if kind == 0 then
      size, i = varint(s, i)
    elseif kind == 1 then
      i = i + 8
    elseif kind == 5 then
      i = i + 4
    elseif kind == 2 then
      size, i = varint(s, i)
      if not size then return '', s end
      if floor(tag / 8) == 2 then
        payload = sub(s, i, i + size - 1)
        begin = nil
      end
      i = i + size
    else
      return '', s
    end
    if begin then rest[#rest + 1] = sub(s, begin, i - 1) end
  end
  return payload, join(rest)
end

-- What a hash shows, and its payload.
local function see(id)
  local v = redis.pcall('HMGET', task .. id, unpack(fields))
  if v.err then return '\29' .. v.err end
  local any, payload = false, ''
  if v[nf] then
    payload, v[nf] = cut(v[nf])
    v[nf] = string.gsub(v[nf], '[\27\29\30\31]', function(c) return '\27' .. char(byte(c) + 64) end)
  end
  for i = 1, nf do
    if v[i] then any = true else v[i] = '\31' end
  end
  if not any then return '' end
  return join(v, '\30', 1, nf), payload
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

if put ~= 'z' and call('EXISTS', KEYS[13]) == 1 and call('HGET', KEYS[11], 'held') ~= '1'
  and call('HGET', KEYS[11], undoing and 'carried-back' or 'carried') ~= '1' then
  return redis.error_reply('REDISOPT_PAUSED the source is paused')
end

-- Returned jobs go in front of what the target has, behind those that were returned before: the oldest is taken
-- first, so that workers of the target find the right one next at every moment. The ledger knows the last one that
-- came, also of those that later passes put behind everything: whoever goes on with the way back goes on there.
local function front(dest, ids)
  local last = call('HGET', KEYS[11], 'front')
  if last and call('LINDEX', dest, 0) == last then
    call('LPUSH', dest, unpack(ids))
  elseif last and call('LPOS', dest, last) then
    for i = 1, #ids do
      call('LINSERT', dest, 'BEFORE', last, ids[i])
      last = ids[i]
    end
  else -- they all have been taken
    local turned = {}
    for i = 1, #ids do turned[i] = ids[#ids + 1 - i] end
    call('RPUSH', dest, unpack(turned))
  end
end

local status = {}
if n > 0 then
  local claim, p = {}, at + 1
  for i = 1, n do
    status[i] = 'g'
    claim[ARGV[p]] = { p, i }
    p = p + 13 + tonumber(ARGV[p + 10]) + tonumber(ARGV[p + 11])
  end
  local function expect(key, kind)
    local t = call('TYPE', key)
    t = t.ok or t
    return t == 'none' or t == kind
  end
  local bad, dest, paused = '', KEYS[2], false
  if put ~= 'z' then
    if target == '4' then
      paused = call('EXISTS', KEYS[4]) == 1
    elseif expect(KEYS[4], 'hash') then
      paused = call('HEXISTS', KEYS[4], 'paused') == 1
    else
      bad = KEYS[4]
    end
    if paused and target ~= '6' then dest = KEYS[3] end
    if not expect(KEYS[6], 'zset') then bad = KEYS[6] end
    if target ~= '4' and (not expect(KEYS[7], 'string') or not string.find(call('GET', KEYS[7]) or '0', '^%d+$')) then
      bad = KEYS[7]
    end
  end
  if not expect(dest, put == 'z' and 'zset' or 'list') then bad = dest end
  if target ~= '4' and not expect(KEYS[5], 'zset') then bad = KEYS[5] end
  if not expect(KEYS[11], 'hash') then bad = KEYS[11] end
  if ARGV[10] ~= '' and not expect(KEYS[8], 'string') then bad = KEYS[8] end
  if bad ~= '' then return redis.error_reply('REDISOPT_WRONGTYPE ' .. bad) end

  local ids, scores = window(skip, n)
  if how == 'L' and ids[1] and not claim[ids[1]] then
    local far = call('LRANGE', KEYS[1], skip, skip + n + 2000)
    for i = 1, #far do
      if claim[far[i]] then
        skip = skip + i - 1
        ids = window(skip, n)
        break
      end
    end
  end
  local stays, taken, picks = 0, {}, {}
  for i = 1, #ids do
    local id = ids[i]
    local c, code = claim[id], nil
    if c and not taken[id] then
      claim[id] = nil
      local o, lease = c[1], false
      local seen, payload = see(id)
      if (not isList and scores[i] ~= ARGV[o + 3]) or seen ~= ARGV[o + 8] then
        code = 'c'
      else
        lease = ARGV[12] ~= '' and call('ZSCORE', KEYS[10], id)
        code = lease and tonumber(lease) > tonumber(ARGV[12]) and 'l' or ARGV[o + 2]
      end
      status[c[2]] = code
      if code == 'm' or code == 'p' then
        picks[#picks + 1] = { id = id, new = ARGV[o + 1], code = code, o = o, claim = c[2], payload = payload, lease = lease }
        taken[id] = true
      elseif code ~= 'c' then
        stays = stays + 1
      end
    end
    if isList and (not code or code == 'c') then break end
  end

  local moved, losses, gone, push, zadd, prio, leases, added = 0, 0, {}, {}, {}, {}, {}, 0
  for i = 1, #picks do
    local k = picks[i]
    local o, key = k.o, to .. k.new
    if call('RENAMENX', task .. k.id, key) == 0 then
      stays = stays + 1
      status[k.claim] = 'x'
    else
      moved = moved + 1
      losses = losses + tonumber(ARGV[o + 12])
      local result = call('HGET', key, 'result')
      local hset, hdel = tonumber(ARGV[o + 10]), tonumber(ARGV[o + 11])
      if hset > 0 then call('HSET', key, unpack(ARGV, o + 13, o + 12 + hset)) end
      if hdel > 0 then call('HDEL', key, unpack(ARGV, o + 13 + hset, o + 12 + hset + hdel)) end
      if ARGV[o + 9] == '1' then call('HSET', key, 'data', k.payload) end
      if result then
        call('HSET', key, 'returnvalue', result)
        call('HDEL', key, 'result')
      end
      local lock, de = ARGV[o + 7], ARGV[o + 6]
      if lock ~= '' and redis.pcall('GET', lock) == k.id then
        if de ~= '' then
          local left = call('PTTL', lock)
          if left > 0 then
            call('SET', to .. 'de:' .. de, k.new, 'NX', 'PX', left)
          else
            call('SET', to .. 'de:' .. de, k.new, 'NX')
          end
        end
        call('DEL', lock)
      end
      if k.lease then leases[#leases + 1] = k.id end
      gone[#gone + 1] = k.id
      if k.code == 'p' then
        local score = ARGV[o + 4]
        if score == '' then
          local counter = call('INCR', KEYS[7])
          score = string.format('%.0f', tonumber(ARGV[o + 5]) * 4294967296 + counter % 4294967296)
        end
        call('ZADD', KEYS[6], score, k.new)
        added = added + 1
      elseif put == 'z' then
        zadd[#zadd + 1], zadd[#zadd + 2] = ARGV[o + 4], k.new
      else
        push[#push + 1] = k.new
        if target == '4' and ARGV[o + 5] ~= '' then
          prio[#prio + 1], prio[#prio + 2] = ARGV[o + 5], k.new
        end
      end
    end
  end
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
  end
  if #leases > 0 then call('ZREM', KEYS[10], unpack(leases)) end
  if #push > 0 then
    if put == 'f' then front(dest, push) else call(put == 'l' and 'LPUSH' or 'RPUSH', dest, unpack(push)) end
    if undoing and put ~= 'r' then call('HSET', KEYS[11], 'front', push[#push]) end
    added = added + #push
  end
  if #prio > 0 then call('ZADD', KEYS[6], unpack(prio)) end
  if #zadd > 0 then call('ZADD', KEYS[2], unpack(zadd)) end
  if target ~= '4' and added > 0 and not paused then call('ZADD', KEYS[5], 0, '0') end
  if #zadd > 0 and KEYS[2] == KEYS[9] then
    local first = call('ZRANGE', KEYS[9], 0, 0, 'WITHSCORES')
    local due = string.format('%.0f', floor(tonumber(first[2]) / 4096))
    if target == '4' then call('PUBLISH', KEYS[9], due) else call('ZADD', KEYS[5], due, '1') end
  end
  if ARGV[10] ~= '' and (tonumber(call('GET', KEYS[8])) or 0) < tonumber(ARGV[10]) then
    call('SET', KEYS[8], ARGV[10])
  end
  if moved > 0 then call('HINCRBY', KEYS[11], ARGV[4], moved) end
  if losses > 0 then call('HINCRBY', KEYS[11], 'losses', losses) end
  skip = skip + stays
end

local out = { skip, join(status), 0, 0 }
local ids, scores = window(skip, want)
for i = 1, #ids do
  local o = #out
  out[o + 1], out[o + 2] = ids[i], scores[i] or ''
  out[o + 3] = (see(ids[i]))
  out[o + 4] = ''
end
return out
