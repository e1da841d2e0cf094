-- Moves one chunk of jobs and returns the next window of the source container.
-- First everything is checked and nothing written, then everything is written: no command of the
-- second half can fail on what the first half has seen, and nothing runs in between.
--
-- A job is moved either because it was claimed, with the edits that were worked out for exactly the
-- hash that is still there; or because it is plain: its hash, but for its id and the time it was added, is
-- one of the shapes of which it is known what becomes of them.
--
-- KEYS  1 source container   2 target container (for lists: wait)   3 target paused list
--       4 target pause flag (bullmq: meta; bull: meta-paused)       5 target marker
--       6 target prioritized (bullmq) or priority (bull)            7 target pc   8 target id
--       9 target delayed    10 source priority index   11 source repeat
--      12 ledger counts     13 ledger undo             14 fence
--      15 source pause flag (bullmq: meta; bull: meta-paused)
-- ARGV  1 fence token  2 source prefix  3 target prefix  4 counter  5 how to read: R L Z H
--       6 how to write: l (LPUSH) r (RPUSH) f (front) z (ZADD)     7 target: 4 5 6
--       8 how many to skip  9 window wanted  10 smallest allowed id counter  11 undoing: 1 or 0
--      12 ids are dropped from the source's priority index: 1 or 0
--      13 what the target's id counter is at least  14 number of shapes  15 number of fields
--      then the shapes (opts before the id, from there to the timestamp, and behind it; the first is \31 when
--      the id is not in opts; the other fields, absent ones as \31; what becomes of opts in the same three
--      parts, the last \31 when they stay; what follows the time in the undo line, \31 for none; losses;
--      number of other HSET words, number of HDEL words, the words), the names of the fields (opts, timestamp, others), the number of claims, and for each claim: id, new id, action (m move, p move to prioritized, e edit and stay, h stay),
--      score, priority, dedup id, scheduler key, what was seen, undo line, number of HSET words,
--      number of HDEL words, number of losses, the words
-- Returns the number to skip, a letter for each claim, with a plus and the losses of plain jobs behind them if
-- there are any, the number of plain jobs moved, the number of
-- ids that follow as colliding (\29 before one that collides with what is no job), these ids, then id, score, what is seen and undo line of each job of
-- the next window. The window is left out when all that was looked at was plain.
local call = redis.call
if ARGV[1] ~= '' and call('GET', KEYS[14]) ~= ARGV[1] then
  return redis.error_reply('REDISOPT_FENCED the lease on this migration was lost')
end
local from, to, how, put, target = ARGV[2], ARGV[3], ARGV[5], ARGV[6], ARGV[7]
local skip, want, undoing = tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[11] == '1'
local floor, isList = tonumber(ARGV[13]), how == 'R' or how == 'L'
local shapes, ns, nf = {}, tonumber(ARGV[14]), tonumber(ARGV[15])
local at = 15
local function word(i) return ARGV[i] ~= '\31' and ARGV[i] end
for i = 1, ns do
  local shape = { first = word(at + 1), before = ARGV[at + 2], behind = ARGV[at + 3] }
  for k = 3, nf do shape[k] = word(at + k + 1) end
  at = at + nf + 1
  shape.toFirst, shape.toBefore, shape.toBehind = word(at + 1), ARGV[at + 2], word(at + 3)
  shape.undo, shape.losses = word(at + 4), tonumber(ARGV[at + 5])
  shape.hset, shape.hdel, shape.words = tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7]), at + 8
  at = at + 7 + shape.hset + shape.hdel
  shapes[i] = shape
end
local fields = {}
for i = 1, nf do fields[i] = ARGV[at + i] end
at = at + nf + 1
local n = tonumber(ARGV[at])
local join, sub, find = table.concat, string.sub, string.find -- the hot ones

-- What a hash shows: its fields joined, absent ones as \31; an error text when it is no hash.
local function see(id)
  local v = redis.pcall('HMGET', from .. id, unpack(fields))
  if v.err then return '\29' .. v.err end
  local any = false
  for i = 1, nf do
    if v[i] then any = true else v[i] = '\31' end
  end
  if not any then return '' end
  return join(v, '\30')
end

-- Whether a key is of a type: a job may be called like the lock or the logs of another, and is a hash.
local function is(key, kind)
  local t = call('TYPE', key)
  return (t.ok or t) == kind
end

-- The shape of a job that needs no look, and its time: its id came from the counter, or is of letters that
-- mean the same wherever they stand and is no name of a key, and its hash has a known shape. In a shape the id
-- and the timestamp are cut out of opts, everything else is exact.
local function plainShape(id)
  if not find(id, '%D') then
    if #id > 14 or sub(id, 1, 1) == '0' or tonumber(id) > floor then return end
  elseif #id > 200 or find(id, '[^%w_.:@/+-]') or not find(id, '%d') or sub(id, 1, 7) == 'repeat:' or sub(id, 1, 2) == '0:' then
    return
  end
  local v = redis.pcall('HMGET', from .. id, unpack(fields))
  local time = v[2]
  if v.err or not time or not find(time, '^[1-9]%d+$') then return end
  for i = 1, ns do
    local shape = shapes[i]
    if v[1] == (shape.first and shape.first .. id or '') .. shape.before .. time .. shape.behind then
      local k = 3
      while k <= nf and v[k] == shape[k] do k = k + 1 end
      if k > nf then return shape, time end
    end
  end
end

-- The next ids to look at, in the order in which they are to be handled.
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

-- A source that was paused since the last look must pause the target before another job arrives there.
if from ~= to and put ~= 'z' then
  local stopped
  if ARGV[12] == '1' then -- Bull's; what is pushed from it are lists
    stopped = call('EXISTS', KEYS[15]) == 1
  else
    stopped = call('HEXISTS', KEYS[15], 'paused') == 1
  end
  if stopped and call('HGET', KEYS[12], undoing and 'carried-back' or 'carried') ~= '1' then
    return redis.error_reply('REDISOPT_PAUSED the source is paused')
  end
end

-- Returned jobs go in front of what the target has, behind those that were returned before: the oldest is taken
-- first, so that workers of the target find the right one next at every moment. The ledger knows the last one that
-- came, also of those that later passes put behind everything: whoever goes on with the way back goes on there.
local function front(dest, ids)
  local last = call('HGET', KEYS[12], 'front')
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

-- From BullMQ to BullMQ scores are kept. The source numbers its jobs from 1 again whenever none waits with a priority:
-- one whose score is not behind what the target has of its priority gets the next number there.
local tops = {}
local function behind(score)
  local s = tonumber(score)
  local p = math.floor(s / 4294967296)
  if not tops[p] then
    local top = call('ZREVRANGEBYSCORE', KEYS[2], string.format('(%.0f', (p + 1) * 4294967296),
      string.format('%.0f', p * 4294967296), 'WITHSCORES', 'LIMIT', 0, 1)
    tops[p] = tonumber(top[2] or '-1')
  end
  if s <= tops[p] then
    local counter = math.max(tonumber(call('GET', KEYS[7]) or '0') or 0, tops[p] % 4294967296) + 1
    call('SET', KEYS[7], string.format('%.0f', counter))
    s = p * 4294967296 + counter
    score = string.format('%.0f', s)
  end
  tops[p] = s
  return score
end

local status, plain, clash, all, suffix = {}, 0, {}, false, ''
if n > 0 or ns > 0 then
  -- Claims by id: where their words begin, and which they are.
  local claim, p = {}, at + 1
  for i = 1, n do
    status[i] = 'g'
    claim[ARGV[p]] = { p, i }
    p = p + 12 + tonumber(ARGV[p + 9]) + tonumber(ARGV[p + 10])
  end

  -- The target must be what the writes below expect.
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
  end
  if not expect(dest, put == 'z' and 'zset' or 'list') then bad = dest end
  if target ~= '4' and not expect(KEYS[5], 'zset') then bad = KEYS[5] end
  if ARGV[12] == '1' and not expect(KEYS[10], 'zset') then bad = KEYS[10] end
  if not expect(KEYS[12], 'hash') then bad = KEYS[12] end
  if ARGV[10] ~= '' and not expect(KEYS[8], 'string') then bad = KEYS[8] end
  if not expect(KEYS[13], 'hash') then bad = KEYS[13] end
  if n > 0 then -- what only claims write
    if put ~= 'z' and not expect(KEYS[6], 'zset') then bad = KEYS[6] end
    if (put ~= 'z' or KEYS[2] == KEYS[6]) and target ~= '4' and (not expect(KEYS[7], 'string') or not find(call('GET', KEYS[7]) or '0', '^%d+$')) then
      bad = KEYS[7]
    end
  end
  if bad ~= '' then
    return redis.error_reply('REDISOPT_WRONGTYPE ' .. bad)
  end

  -- Where the ids are now.
  local reach = ns > 0 and want > n and want or n
  local ids, scores = window(skip, reach)
  if how == 'L' and n > 0 and ids[1] and not claim[ids[1]] then
    -- Producers pushed newer ids on this end: step over them, they belong to a later pass.
    local far = call('LRANGE', KEYS[1], skip, skip + n + 2000)
    for i = 1, #far do
      if claim[far[i]] then
        skip = skip + i - 1
        ids = window(skip, reach)
        break
      end
    end
  end

  -- One EXISTS over all locks and logs, looked into only if there is any.
  local side, count = {}, 0
  for i = 1, #ids do
    local key = from .. ids[i]
    side[count + 1] = key .. ':lock'
    side[count + 2] = key .. ':logs'
    count = count + 2
  end
  local sides = count > 0 and call('EXISTS', unpack(side)) > 0

  -- An id can be twice in a list, but has one hash: the second one is met again without it.
  local picks, stays, taken = 0, 0, {}
  local pid, pnew, pcode, pwords, pclaim, ppos, pshape, ptime = {}, {}, {}, {}, {}, {}, {}, {}
  for i = 1, #ids do
    local id = ids[i]
    local c, code = claim[id], nil
    if taken[id] then
      c = nil
    elseif c then
      claim[id] = nil
      local o = c[1]
      if (not isList and scores[i] ~= ARGV[o + 3]) or see(id) ~= ARGV[o + 7] then
        code = 'c'
      elseif sides and is(from .. id .. ':lock', 'string') then
        code = 'l'
      else
        code = ARGV[o + 2]
        local key = ARGV[o + 6]
        if key ~= '' then
          local due = call('ZSCORE', KEYS[11], key)
          due = due and ':' .. string.format('%.0f', tonumber(due))
          if due and sub(id, -#due) == due then code = 's' end
        end
      end
      status[c[2]] = code
      if code == 'm' or code == 'p' or code == 'e' then
        picks = picks + 1
        pid[picks], pnew[picks], pcode[picks], pwords[picks], pclaim[picks], ppos[picks] = id, ARGV[o + 1], code, o, c[2], i
        taken[id] = true
      elseif code ~= 'c' then
        stays = stays + 1
      end
    elseif ns > 0 then
      local shape, time = plainShape(id)
      if shape and not (sides and is(from .. id .. ':lock', 'string')) then
        code = 'm'
        picks = picks + 1
        pid[picks], pnew[picks], pcode[picks], pwords[picks], ppos[picks] = id, id, code, 0, i
        pshape[picks], ptime[picks] = shape, time
        taken[id] = true
      end
    end
    -- A list is taken strictly in its order: what changed or is new comes first the next time.
    if isList and (not code or code == 'c') then break end
  end

  -- What an update of a job that is gone leaves behind is a hash, but no job.
  local function phantom(key)
    local v = redis.pcall('HMGET', key, 'opts', 'timestamp', 'data')
    return not v.err and not v[1] and not v[2] and not v[3]
  end

  -- From here on everything is written, the hashes first: a target that exists is a collision.
  local moved, losses, lost = 0, 0, 0
  for i = 1, picks do
    local id, new, o = pid[i], pnew[i], pwords[i]
    if (from ~= to or new ~= id) and call('RENAMENX', from .. id, to .. new) == 0 then
      stays = stays + 1
      local code = phantom(to .. new) and 'f' or 'x'
      if o ~= 0 then
        status[pclaim[i]] = code
      else
        clash[#clash + 1] = code == 'f' and '\29' .. id or id
      end
      pcode[i] = 'x'
    elseif pcode[i] == 'e' then
      stays = stays + 1
    else
      moved = moved + 1
      if o == 0 then
        plain = plain + 1
        lost = lost + pshape[i].losses
      else
        losses = losses + tonumber(ARGV[o + 11])
      end
    end
  end
  all = plain > 0 and plain == #ids
  if lost > 0 then suffix = '+' .. lost end

  local gone, push, zadd, undo, prio, seen, added = {}, {}, {}, {}, {}, {}, 0
  local function write(i)
    local o, id, new, action = pwords[i], pid[i], pnew[i], pcode[i]
    local key = to .. new
    if sides and (from ~= to or new ~= id) and is(from .. id .. ':logs', 'list') and not is(key .. ':logs', 'hash') then
      call('RENAME', from .. id .. ':logs', key .. ':logs')
    end
    local priority = ''
    if o ~= 0 then
      priority = ARGV[o + 4]
      local de = ARGV[o + 5]
      if de ~= '' and (from ~= to or new ~= id) and redis.pcall('GET', from .. 'de:' .. de) == id then
        if from ~= to and call('RENAMENX', from .. 'de:' .. de, to .. 'de:' .. de) == 0 then
          call('DEL', from .. 'de:' .. de)
        elseif new ~= id then
          local left = call('PTTL', to .. 'de:' .. de)
          if left > 0 then
            call('SET', to .. 'de:' .. de, new, 'PX', left)
          else
            call('SET', to .. 'de:' .. de, new)
          end
        end
      end
      local hset, hdel = tonumber(ARGV[o + 9]), tonumber(ARGV[o + 10])
      if hset > 0 then call('HSET', key, unpack(ARGV, o + 12, o + 11 + hset)) end
      if hdel > 0 then call('HDEL', key, unpack(ARGV, o + 12 + hset, o + 11 + hset + hdel)) end
      if ARGV[o + 8] ~= '' and from == to and new == id and hset + hdel == 0 then
        call('HSETNX', KEYS[13], id, ARGV[o + 8]) -- it may have been converted before, and its line is the right one
      elseif ARGV[o + 8] ~= '' then
        undo[#undo + 1] = new
        undo[#undo + 1] = ARGV[o + 8]
      end
    else
      local shape, time = pshape[i], ptime[i]
      if shape.toBehind then
        call('HSET', key, 'opts', (shape.toFirst and shape.toFirst .. id or '') .. shape.toBefore .. time .. shape.toBehind,
          unpack(ARGV, shape.words, shape.words + shape.hset - 1))
      elseif shape.hset > 0 then
        call('HSET', key, unpack(ARGV, shape.words, shape.words + shape.hset - 1))
      end
      if shape.hdel > 0 then
        call('HDEL', key, unpack(ARGV, shape.words + shape.hset, shape.words + shape.hset + shape.hdel - 1))
      end
      if shape.undo then
        undo[#undo + 1] = new
        undo[#undo + 1] = '{"ts":"' .. time .. shape.undo
      end
    end
    if undoing and from ~= to then seen[#seen + 1] = id end -- in place it is met again
    if action == 'e' then
      if isList and target == '4' and priority ~= '' then -- by this Bull finds the place of later ones
        prio[#prio + 1] = priority
        prio[#prio + 1] = new
      end
      if new ~= id then
        if how == 'R' then
          call('LSET', KEYS[1], -(skip + ppos[i]), new)
        elseif how == 'L' then
          call('LSET', KEYS[1], skip + ppos[i] - 1, new)
        else
          call('ZREM', KEYS[1], id)
          call('ZADD', KEYS[1], scores[ppos[i]], new)
        end
      end
    else
      gone[#gone + 1] = id
      if action == 'p' then
        local counter = call('INCR', KEYS[7])
        call('ZADD', KEYS[6], string.format('%.0f', tonumber(priority) * 4294967296 + counter % 4294967296), new)
        added = added + 1
      elseif put == 'z' then
        zadd[#zadd + 1] = KEYS[2] == KEYS[6] and not undoing and behind(scores[ppos[i]]) or scores[ppos[i]]
        zadd[#zadd + 1] = new
      else
        push[#push + 1] = new
        if target == '4' and priority ~= '' then
          prio[#prio + 1] = priority
          prio[#prio + 1] = new
        end
      end
    end
  end
  for i = 1, picks do
    if pcode[i] ~= 'x' then write(i) end
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
    if ARGV[12] == '1' then call('ZREM', KEYS[10], unpack(gone)) end
  end
  if #push > 0 then
    if put == 'f' then front(dest, push) else call(put == 'l' and 'LPUSH' or 'RPUSH', dest, unpack(push)) end
    if undoing and put ~= 'r' then call('HSET', KEYS[12], 'front', push[#push]) end
    added = added + #push
  end
  if #prio > 0 then call('ZADD', KEYS[6], unpack(prio)) end
  if #zadd > 0 then call('ZADD', KEYS[2], unpack(zadd)) end
  if #zadd > 0 and KEYS[2] == KEYS[6] then -- from BullMQ to BullMQ: later ones come after these
    local counter = tonumber(call('GET', from .. 'pc') or '0') or 0
    if (tonumber(call('GET', KEYS[7]) or '0') or 0) < counter then call('SET', KEYS[7], string.format('%.0f', counter)) end
    added, paused = 1, call('HEXISTS', KEYS[4], 'paused') == 1
  end
  if target ~= '4' and added > 0 and not paused then call('ZADD', KEYS[5], 0, '0') end
  if #zadd > 0 and KEYS[2] == KEYS[9] then
    local first = call('ZRANGE', KEYS[9], 0, 0, 'WITHSCORES')
    local due = string.format('%.0f', math.floor(tonumber(first[2]) / 4096))
    if target == '4' then
      call('PUBLISH', KEYS[9], due)
    else
      call('ZADD', KEYS[5], due, '1')
    end
  end
  if ARGV[10] ~= '' and (tonumber(call('GET', KEYS[8])) or 0) < tonumber(ARGV[10]) then
    call('SET', KEYS[8], ARGV[10])
  end
  if moved > 0 and ARGV[4] ~= '' then call('HINCRBY', KEYS[12], ARGV[4], moved) end
  if losses + lost > 0 then call('HINCRBY', KEYS[12], 'losses', losses + lost) end
  if #undo > 0 then call('HSET', KEYS[13], unpack(undo)) end
  if #seen > 0 then call('HDEL', KEYS[13], unpack(seen)) end
  skip = skip + stays
end

local out = { skip, join(status) .. suffix, plain, #clash }
for i = 1, #clash do out[4 + i] = clash[i] end
if all then return out end
local ids, scores = window(skip, want)
local lines
if undoing and #ids > 0 then lines = call('HMGET', KEYS[13], unpack(ids)) end
local o = #out
for i = 1, #ids do
  out[o + 1] = ids[i]
  out[o + 2] = scores[i] or ''
  out[o + 3] = see(ids[i])
  out[o + 4] = lines and lines[i] or ''
  o = o + 4
end
return out
