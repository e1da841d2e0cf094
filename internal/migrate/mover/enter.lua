-- Moves one chunk of jobs of Bull or BullMQ to asynq and returns the next window of the source container:
-- move.lua says how such a script is to be read. The hash of a claimed job is renamed, so that what asynq has
-- no place for stays with it. A job of a known shape gets a new hash, since all else that its old one holds is
-- known: it is named in moved_from. The data becomes the payload of the message, byte for byte.
--
-- KEYS  1 source container   2-4 target container in the bands normal, high, low
--       5 source priority index   6 source repeat   7 source pause flag
--       8 target pause flag       9 ledger counts  10 fence
-- ARGV  1 fence token  2 source prefix  3-5 prefixes of the target's jobs, by band  6 counter
--       7 how to read: R L Z H  8 how to write: l r z  9 how many to skip  10 window wanted
--      11 what the state is called  12 what marks a job as moved: layout and state, with a blank behind
--      13 source: 4 5 6  14 what ids from the counter begin with  15 prefix of locks
--      16 number of shapes  17 number of fields
--      then the shapes (opts before the id, from there to the timestamp, and behind it; the first is \31 when
--      the id is not in opts; message before the payload and behind the id, up to the timestamp and from
--      there; band; losses; what moved_from says of the hash; number of other fields, their names and values),
--      the names of the fields (opts, timestamp, others), the number of claims, and for each claim:
--      id, new id, action (m move, h stay), score, band, target score, dedup id, scheduler key, what was
--      seen, message before the payload and behind the id, losses
-- Returns what move.lua does, and behind the letters a plus and the losses of plain jobs, if there are any.
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
  local shape, others = {}, {}
  shape.first, shape.before, shape.after = ARGV[at + 1] ~= '\31' and ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  shape.head, shape.tail, shape.rest, shape.band = ARGV[at + 4], ARGV[at + 5], ARGV[at + 6], tonumber(ARGV[at + 7])
  shape.losses, shape.kept = tonumber(ARGV[at + 8]), '\n' .. ARGV[at + 9]
  local count = tonumber(ARGV[at + 10])
  at = at + 10
  for _ = 1, count do
    others[ARGV[at + 1]] = ARGV[at + 2]
    at = at + 2
  end
  shape.others, shape.size = others, 2 * count + 6 -- with opts, timestamp and data
  shapes[i] = shape
end
local fields = {}
for i = 1, nf do fields[i] = ARGV[at + i] end
fields[nf + 1] = 'data'
fields[nf + 2] = word == 'completed' and 'returnvalue' or nil
at = at + nf + 1
local n = tonumber(ARGV[at])
local join, sub, find, char, byte, floor = table.concat, string.sub, string.find, string.char, string.byte, math.floor

-- A number as protocol buffers write it.
local function varint(v)
  local s = ''
  while v >= 128 do
    s = s .. char(v % 128 + 128)
    v = floor(v / 128)
  end
  return s .. char(v)
end

local function message(head, data, id, tail, time, rest)
  local size = #id < 128 and char(#id) or varint(#id)
  if not data or data == '' then return head .. '\26' .. size .. id .. tail .. time .. rest end
  return head .. '\18' .. (#data < 128 and char(#data) or varint(#data)) .. data .. '\26' .. size .. id .. tail .. time .. rest
end

-- What a hash shows, and its data and result.
local function see(id)
  local v = redis.pcall('HMGET', from .. id, unpack(fields))
  if v.err then return '\29' .. v.err end
  local any, data, result, time = false, v[nf + 1], v[nf + 2], v[2]
  for i = 1, nf do
    if v[i] then any = true else v[i] = '\31' end
  end
  if not any then return '' end
  return join(v, '\30', 1, nf), data, result, time
end

local function is(key, kind)
  local t = call('TYPE', key)
  return (t.ok or t) == kind
end

-- The shape of a job that needs no look: nothing in its hash is unknown but the time and the data. Also
-- the id it gets. Its own id came from the counter, or is of letters that mean the same wherever they stand.
local function plainShape(id)
  local new = id
  if not find(id, '%D') then
    if #id > 14 or byte(id) == 48 then return end
    new = own .. id
  elseif #id > 200 or find(id, '[^%w_.:@/+-]') or sub(id, 1, 5) == 'cron:' or sub(id, 1, 7) == 'repeat:' or sub(id, 1, 2) == '0:' then
    return
  end
  local v = redis.pcall('HGETALL', from .. id)
  if v.err then return end
  local size = #v
  for i = 1, ns do
    local shape = shapes[i]
    if size == shape.size then
      local others, opts, time, data, k = shape.others, nil, nil, nil, 1
      while k < size do
        local name, value = v[k], v[k + 1]
        local known = others[name]
        if known then
          if known ~= value then break end
        elseif name == 'data' then
          data = value
        elseif name == 'opts' then
          opts = value
        elseif name == 'timestamp' then
          time = value
        else
          break
        end
        k = k + 2
      end
      if k > size and data and time and #time == 13 and not find(time, '%D') then
        local first = shape.first and shape.first .. id or ''
        if opts == first .. shape.before .. time .. shape.after then return shape, data, time, new end
      end
    end
  end
end

-- Whether a band has any job, of whatever state.
local inhabited = {}
local function holds(b)
  if inhabited[b] == nil then
    local q = sub(task[b], 1, -3)
    inhabited[b] = call('EXISTS', q .. 'pending', q .. 'active', q .. 'scheduled', q .. 'retry', q .. 'archived',
      q .. 'completed', q .. 'groups') > 0
  end
  return inhabited[b]
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

local status, plain, clash, all, lost = {}, 0, {}, false, 0
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

  -- What is to be moved: id, new id, band, data, when it was added, where its claim's words begin (0: none),
  -- which claim it is, its result and score.
  local stays, taken, picks, others = 0, {}, 0, {}
  local pid, pnew, pband, pdata, ptime, pwords, pclaim, presult, pscore, pshape = {}, {}, {}, {}, {}, {}, {}, {}, {}, {}
  local fresh = {}
  for i = 1, #ids do
    local id = ids[i]
    local c, code = claim[id], nil
    if taken[id] then
      c = nil
    elseif c then
      claim[id] = nil
      local o = c[1]
      local seen, data, result, time = see(id)
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
        picks = picks + 1
        local new, band = ARGV[o + 1], tonumber(ARGV[o + 4])
        pid[picks], pnew[picks], pband[picks], pdata[picks], ptime[picks] = id, new, band, data, time
        pwords[picks], pclaim[picks], presult[picks], pscore[picks] = o, c[2], result, scores[i]
        for b = 0, 2 do
          if b ~= band then others[#others + 1] = task[b + 1] .. new end
        end
        taken[id] = true
      elseif code ~= 'c' then
        stays = stays + 1
      end
    elseif ns > 0 then
      local shape, data, time, new = plainShape(id)
      if shape and not (sides and is(from .. id .. ':lock', 'string')) then
        code = 'm'
        picks = picks + 1
        local band = shape.band
        pid[picks], pnew[picks], pband[picks], pdata[picks], ptime[picks] = id, new, band, data, time
        pwords[picks], pshape[picks] = 0, shape
        fresh[#fresh + 1] = task[band + 1] .. new
        if new == id then
          for b = 1, 3 do
            if b ~= band + 1 and holds(b) then fresh[#fresh + 1] = task[b] .. new end
          end
        end
        taken[id] = true
      end
    end
    if isList and (not code or code == 'c') then break end
  end

  -- One EXISTS over the names that these jobs would have in the other bands, looked into only if there is any.
  local doubles = #others > 0 and call('EXISTS', unpack(others)) > 0
  if #fresh > 0 and call('EXISTS', unpack(fresh)) > 0 then doubles = true end
  local function isTaken(i, any)
    for b = 0, 2 do
      if (any or b ~= pband[i]) and call('EXISTS', task[b + 1] .. pnew[i]) == 1 then return true end
    end
    return false
  end

  -- From here on everything is written, the hashes first: a target that exists is a collision.
  local moved, losses, gone, dead, used, add = 0, 0, {}, {}, {}, { {}, {}, {} }
  local pending, known = word == 'pending', mark .. '- 2 '
  for i = 1, picks do
    local id, new, band, data, o = pid[i], pnew[i], pband[i], pdata[i], pwords[i]
    local key = task[band + 1] .. new
    local free
    if o == 0 then
      free = not used[new] and not (doubles and isTaken(i, true))
    else
      free = not (doubles and isTaken(i)) and call('RENAMENX', from .. id, key) == 1
    end
    if not free then
      stays = stays + 1
      if o ~= 0 then status[pclaim[i]] = 'x' else clash[#clash + 1] = id end
    else
      moved = moved + 1
      used[new] = true
      if o == 0 then
        plain = plain + 1
        local shape, time = pshape[i], ptime[i]
        lost = lost + shape.losses
        call('HSET', key, 'msg', message(shape.head, data, new, shape.tail, time, shape.rest), 'state', 'pending',
          'moved_from', known .. id .. shape.kept, 'pending_since', time .. '000000')
        dead[plain] = from .. id
      else
        local origin = mark .. (pscore[i] or '-') .. (data and ' 1 ' or ' 0 ') .. id
        call('HDEL', key, 'data')
        losses = losses + tonumber(ARGV[o + 11])
        local set = { 'msg', message(ARGV[o + 9], data, new, ARGV[o + 10], '', ''), 'state', word, 'moved_from', origin }
        if pending then
          set[7], set[8] = 'pending_since', ptime[i] .. '000000'
        end
        if presult[i] then
          set[#set + 1], set[#set + 2] = 'result', presult[i]
          call('HDEL', key, 'returnvalue')
        end
        local de = ARGV[o + 6]
        if de ~= '' and redis.pcall('GET', from .. 'de:' .. de) == id then
          local left = call('PTTL', from .. 'de:' .. de)
          local life = left > 0 and math.ceil(left / 1000) or 2592000
          if call('SET', locks .. de, new, 'NX', 'EX', string.format('%.0f', life)) then
            set[#set + 1], set[#set + 2] = 'unique_key', locks .. de
          end
          call('DEL', from .. 'de:' .. de)
        end
        call('HSET', key, unpack(set))
      end
      gone[#gone + 1] = id
      local list = add[band + 1]
      if put == 'z' then list[#list + 1] = ARGV[o + 5] end
      list[#list + 1] = new
    end
  end
  if plain > 0 then call('DEL', unpack(dead)) end
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
  if losses + lost > 0 then call('HINCRBY', KEYS[9], 'losses', losses + lost) end
  skip = skip + stays
end

local out = { skip, join(status) .. (lost > 0 and '+' .. lost or ''), plain, #clash }
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
