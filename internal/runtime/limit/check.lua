-- Decides n limits at the server's own time and counts what it admits. KEYS: n states, then the sets of
-- former limiters. ARGV: mode (each, all), n, id, then 13 words a limit: kind, capacity, period,
-- width or rate, min, want, hold, give, stamp, index of the former set in KEYS or 0, calendar edges or
-- -, 1 when its denial does not keep the others of "all" from passing, and for a bucket that has two sides
-- to be on: m to refuse one that has left, c also one that was never here, or GENERATION:LEVEL to have it
-- here from now on, as it was on the other side; - for all others.
-- Times are microseconds. Answers: commands run, now, then 7 numbers a limit: granted, used, reset,
-- retry, retry for want, stamp, hold. granted is -1 when now is outside the calendar edges, and -2 when the
-- bucket is not here: then stamp is its generation and retry its level.
local calls = 1
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min
local match, sub, fmt = string.match, string.sub, string.format
local all, n, id = ARGV[1] == 'all', tonumber(ARGV[2]), ARGV[3]

local used = {}
for i = 1, n do used[ARGV[4 + (i - 1) * 13]] = true end

local function whole(x) return fmt('%.0f', x) end
local function hex(x) return fmt('%x', x) end

local function grant(free, least, want)
  if free < least or least < 1 then return 0 end
  return min(want, free)
end

-- Functions are made only for the kinds that are used.

-- Sliding log and parts: entries of (gap to the next, count), oldest first; the newest is in the head.
local log = {}
if used.L then
  function log.load(s, text, r)
    local width, first, last, lastn, total, at = match(text, '^L1:(%d+):(%x+):(%x+):(%x+):(%x+):()')
    s.total, s.body, s.pos = 0, '', 1
    if not width then return end
    s.first, s.last, s.lastn = tonumber(first, 16), tonumber(last, 16), tonumber(lastn, 16)
    s.total, s.body = tonumber(total, 16), sub(text, at)
    width = tonumber(width)
    if width ~= r.width then
      s.last = floor((s.last * width + width - 1) / r.width)
      s.first, s.lastn, s.body = s.last, s.total, ''
    end
  end

  local function entry(s, pos)
    local gap, count, after = match(s.body, '^(%x+)%.?(%x*);()', pos)
    if not gap then return nil end
    if count == '' then count = 1 else count = tonumber(count, 16) end
    return tonumber(gap, 16), count, after
  end

  local function leaves(at, r) return at * r.width + r.width - 1 + r.period - now end

  function log.prune(s, r)
    if s.total > 0 and leaves(s.last, r) <= 0 then s.total = 0 end
    if s.total == 0 then s.body, s.pos = '', 1 return end
    while leaves(s.first, r) <= 0 do
      local gap, count, after = entry(s, s.pos)
      if not gap then break end
      s.total, s.first, s.pos = s.total - count, s.first + gap, after
    end
  end

  function log.give(s, at, units)
    local list, stamp, pos = {}, s.first, s.pos
    while true do
      local gap, count, after = entry(s, pos)
      if not gap then break end
      list[#list + 1] = {stamp, count}
      stamp, pos = stamp + gap, after
    end
    list[#list + 1] = {s.last, s.lastn}
    s.total, s.body, s.pos = 0, '', 1
    for i = 1, #list do
      local count = list[i][2]
      if list[i][1] == at then count = max(0, count - units) end
      if count > 0 then log.add(s, list[i][1], count) end
    end
  end

  function log.add(s, at, units)
    if s.total == 0 then
      s.first, s.last, s.lastn, s.body, s.pos = at, at, units, '', 1
    elseif at <= s.last then
      s.lastn = s.lastn + units
    else
      local count = ''
      if s.lastn > 1 then count = '.' .. hex(s.lastn) end
      s.body = sub(s.body, s.pos) .. hex(at - s.last) .. count .. ';'
      s.pos, s.last, s.lastn = 1, at, units
    end
    s.total = s.total + units
    return s.last
  end

  function log.retry(s, r, units)
    local need = s.total + r.others + units - r.cap
    if need <= 0 then return 0 end
    local stamp, pos, own = s.first, s.pos, r.period
    while s.total > 0 do
      local gap, count, after = entry(s, pos)
      if not gap then
        if need <= s.lastn then own = leaves(s.last, r) end
        break
      end
      need = need - count
      if need <= 0 then own = leaves(stamp, r) break end
      stamp, pos = stamp + gap, after
    end
    if r.free > 0 then return min(own, r.free) end
    return own
  end

  function log.take(s, r, d)
    log.prune(s, r)
    if r.give > 0 and s.total > 0 then log.give(s, r.stamp, r.give) end
    d.granted = grant(r.cap - s.total - r.others, r.min, r.want)
    if d.granted > 0 then
      d.hold = r.hold
      d.stamp = log.add(s, floor((now + r.hold) / r.width), d.granted)
    else
      d.retry = log.retry(s, r, r.min)
    end
    d.more = log.retry(s, r, r.want)
    d.used = s.total + r.others
    if s.total > 0 then d.reset = leaves(s.first, r) end
  end

  function log.save(s, r)
    if s.total == 0 then return '', 1 end
    local head = 'L1:' .. whole(r.width) .. ':' .. hex(s.first) .. ':' .. hex(s.last) .. ':' .. hex(s.lastn) .. ':' .. hex(s.total) .. ':'
    return head .. sub(s.body, s.pos), s.last * r.width + r.width + r.period - now
  end
end

-- Fixed and calendar periods.
local fixed = {}
if used.F then
  function fixed.load(s, text)
    local start, count = match(text, '^F1:(%d+):(%d+)$')
    s.start, s.count = tonumber(start or 0), tonumber(count or 0)
  end

  function fixed.take(s, r, d)
    local start, finish = now - now % r.period, 0
    finish = start + r.period
    if r.edges then
      start = nil
      for i = 1, 3 do
        if now >= r.edges[i] and now < r.edges[i + 1] then start, finish = r.edges[i], r.edges[i + 1] end
      end
      if not start then d.granted = -1 return end
    end
    if s.start > start then
      finish = finish + s.start - start
      start = s.start
    end
    if s.start ~= start then s.start, s.count = start, 0 end
    if r.give > 0 and r.stamp == start then s.count = max(0, s.count - r.give) end
    local left = finish - now
    d.granted, d.reset = grant(r.cap - s.count - r.others, r.min, r.want), left
    if d.granted > 0 then
      s.count = s.count + d.granted
      d.stamp, d.hold = start, min(r.hold, left)
    else
      d.retry = left
    end
    if s.count + r.others + r.want > r.cap then d.more = left end
    d.used, s.finish = s.count + r.others, finish
  end

  function fixed.save(s)
    return 'F1:' .. whole(s.start) .. ':' .. whole(s.count), s.finish - now
  end
end

-- Two counters and a weight.
local counter = {}
if used.C then
  function counter.load(s, text)
    local start, prev, count = match(text, '^C1:(%d+):(%d+):(%d+)$')
    s.start, s.prev, s.count = tonumber(start or 0), tonumber(prev or 0), tonumber(count or 0)
  end

  local function fade(period, room, count) return ceil(period - period * room / count) end

  local function fades(s, r, at, units)
    local spent = at - s.start
    local room = r.cap - s.count - r.others - units
    if room >= 0 and s.prev > 0 then return max(1, fade(r.period, room, s.prev) - spent) end
    local wait = r.period - spent
    room = r.cap - r.others - units
    if room >= 0 and s.count > 0 then wait = wait + max(0, fade(r.period, room, s.count)) end
    return wait
  end

  function counter.take(s, r, d)
    local at = now
    local start = now - now % r.period
    if s.start >= start then
      at = max(now, s.start)
      start = s.start
    elseif s.start == start - r.period then
      s.start, s.prev, s.count = start, s.count, 0
    else
      s.start, s.prev, s.count = start, 0, 0
    end
    local finish = start + r.period
    if r.give > 0 and r.stamp == start then
      s.count = max(0, s.count - r.give)
    elseif r.give > 0 and r.stamp == start - r.period then
      s.prev = max(0, s.prev - r.give)
    end
    local function weigh() return s.prev * (finish - at) / r.period + (s.count + r.others) end
    local free = floor(r.cap - weigh())
    d.granted, d.reset = grant(free, r.min, r.want), finish - at
    if d.granted > 0 then
      s.count = s.count + d.granted
      d.stamp, d.hold = start, min(r.hold, finish - at)
    else
      d.retry = fades(s, r, at, r.min)
    end
    if free - d.granted < r.want then d.more = fades(s, r, at, r.want) end
    d.used = ceil(weigh())
  end

  function counter.save(s, r)
    return 'C1:' .. whole(s.start) .. ':' .. whole(s.prev) .. ':' .. whole(s.count), s.start + 2 * r.period - now
  end
end

-- Token bucket: the level falls by one a microsecond; a unit raises it by the gap. One with two sides to be
-- on counts on one of them, and has left the other, where m stands after its generation.
local bucket = {}
if used.G then
  local keep = 600 * 1000000

  function bucket.load(s, text)
    local base, level, gen, left = match(text, '^G1:(%d+):([%d.e+-]+):?(%d*):?(m?)$')
    s.base, s.level = tonumber(base or 0), tonumber(level or 0) or 0
    s.gen, s.left, s.here = tonumber(gen or '') or 0, left == 'm', base and left ~= 'm'
  end

  function bucket.take(s, r, d)
    local gap = r.period / r.width
    local full = gap * r.cap
    local level = max(0, s.base - now + s.level)
    local gen, brought = match(r.carry, '^(%d+):(%d+)$')
    if gen and tonumber(gen) > s.gen then
      s.gen, s.here, s.left = tonumber(gen), true, false
      level = max(level, tonumber(brought))
      d.taken = true
    elseif r.carry ~= '-' and (s.left or r.carry ~= 'm' and not s.here) then
      d.granted, d.stamp, d.retry = -2, s.gen, ceil(level)
      return
    end
    if r.give > 0 then level = max(0, level - gap * r.give) end
    local free = max(0, floor((full - level) / gap + 1e-6) - r.others)
    d.granted = grant(free, r.min, r.want)
    local function till(units) return max(1, ceil(level + gap * units - full)) end
    if d.granted > 0 then
      level = level + gap * d.granted
      d.hold = r.hold
    else
      d.retry = till(r.min)
    end
    if free - d.granted < r.want then d.more = till(r.want) end
    s.base, s.level = now, level
    d.used, d.reset = r.cap - (free - d.granted), ceil(level)
  end

  function bucket.save(s, r)
    local text, left = 'G1:' .. whole(s.base) .. ':' .. fmt('%.17g', s.level), ceil(s.level) + s.base - now
    if s.gen > 0 then text = text .. ':' .. whole(s.gen) end
    if r.carry ~= '-' and r.carry ~= 'm' then left = max(left, keep) end
    return text, left
  end
end

-- The former limiter's own set: milliseconds as scores, one member a request.
local shared = {}
if used.Z then
  function shared.load() end

  function shared.take(s, r, d)
    if not s.scores then
      calls = calls + 1
      local list = redis.call('ZRANGEBYSCORE', s.key, '(' .. whole((now - r.period) / 1000), '+inf', 'WITHSCORES')
      s.scores, s.added = {}, 0
      for i = 2, #list, 2 do s.scores[#s.scores + 1] = tonumber(list[i]) end
    end
    local used = #s.scores
    local function till(units)
      local need = used + units - r.cap
      if need <= 0 then return 0 end
      return max(1, (s.scores[min(need, used)] or 0) * 1000 + r.period - now)
    end
    d.granted = grant(r.cap - used, r.min, r.want)
    if d.granted == 0 then d.retry = till(r.min) end
    if d.granted > 0 then
      for _ = 1, d.granted do s.scores[#s.scores + 1] = floor(now / 1000) end
      s.added = s.added + d.granted
    end
    d.used = #s.scores
    if s.scores[1] then d.reset = max(1, s.scores[1] * 1000 + r.period - now) end
  end
end

local kinds = {L = log, F = fixed, C = counter, G = bucket, Z = shared}

local names, texts, list = {}, {}, {}
for i = 1, n do
  if ARGV[4 + (i - 1) * 13] ~= 'Z' then names[#names + 1] = KEYS[i] end
end
if #names > 0 then
  calls = calls + 1
  list = redis.call('MGET', unpack(names))
  for i = 1, #names do texts[names[i]] = list[i] or '' end
end

local states, rules, out, pass = {}, {}, {}, true
for i = 1, n do
  local a = 4 + (i - 1) * 13
  local key, kind = KEYS[i], kinds[ARGV[a]]
  local r = {
    kind = kind, cap = tonumber(ARGV[a + 1]), period = tonumber(ARGV[a + 2]), width = tonumber(ARGV[a + 3]),
    min = tonumber(ARGV[a + 4]), want = tonumber(ARGV[a + 5]), hold = tonumber(ARGV[a + 6]),
    give = tonumber(ARGV[a + 7]), stamp = tonumber(ARGV[a + 8]), others = 0, free = 0,
    carry = ARGV[a + 12],
  }
  if ARGV[a + 10] ~= '-' then
    r.edges = {}
    for edge in string.gmatch(ARGV[a + 10], '%d+') do r.edges[#r.edges + 1] = tonumber(edge) end
  end
  local s = states[key]
  if not s then
    s = {key = key, total = 0, body = '', pos = 1, first = 0, last = 0, lastn = 0, start = 0, count = 0, prev = 0, rule = false}
    kind.load(s, texts[key] or '', r)
    states[key] = s
  end
  local former = tonumber(ARGV[a + 9])
  if former > 0 and kind ~= shared then
    local from = '(' .. whole((now - r.period) / 1000)
    calls = calls + 1
    local count = redis.pcall('ZCOUNT', KEYS[former], from, '+inf')
    if type(count) == 'number' then r.others = count end
    if kind == log and r.others > 0 then
      local need = (s.total or 0) + r.others + r.min - r.cap
      if need > 0 and need <= r.others then
        calls = calls + 1
        local at = redis.pcall('ZRANGEBYSCORE', KEYS[former], from, '+inf', 'WITHSCORES', 'LIMIT', need - 1, 1)
        if type(at) == 'table' and at[2] then r.free = max(1, ceil(tonumber(at[2]) * 1000 + r.period - now)) end
      end
    end
  end
  local d = {granted = 0, used = 0, reset = 0, retry = 0, more = 0, stamp = 0, hold = 0}
  kind.take(s, r, d)
  if d.granted == -2 or d.granted < r.min and ARGV[a + 11] ~= '1' then pass = false end
  if d.granted > 0 or (r.give > 0 or d.taken) and d.granted == 0 then s.rule = r end
  out[i], rules[i] = d, r
end

if pass or not all then
  for i = 1, n do
    local s = states[KEYS[i]]
    local r = s.rule
    s.rule = false
    if r and r.kind == shared then
      calls = calls + 3
      redis.call('ZREMRANGEBYSCORE', s.key, '-inf', whole((now - r.period) / 1000))
      local add, at = {}, whole(floor(now / 1000))
      for k = 1, s.added do
        add[#add + 1] = at
        add[#add + 1] = id .. ':' .. i .. ':' .. k
        if #add == 2000 and k < s.added then
          calls = calls + 1
          redis.call('ZADD', s.key, unpack(add))
          add = {}
        end
      end
      redis.call('ZADD', s.key, unpack(add))
      redis.call('PEXPIRE', s.key, whole(ceil(r.period / 1000)))
    elseif r then
      local text, left = r.kind.save(s, r)
      calls = calls + 1
      redis.call('SET', s.key, text, 'PX', whole(max(1, ceil(left / 1000))))
    end
  end
end

local answer = {calls, now, 0, 0, 0, 0, 0, 0, 0}
for i = 1, n do
  local d = out[i]
  local at = 2 + (i - 1) * 7
  answer[at + 1], answer[at + 2], answer[at + 3], answer[at + 4] = d.granted, d.used, d.reset, d.retry
  answer[at + 5], answer[at + 6], answer[at + 7] = d.more, d.stamp, d.hold
end
return answer
