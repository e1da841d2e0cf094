-- Decides who may have how many connections, by the server's clock.
--
-- KEYS[1]  the lease hash
-- ARGV     1 mode: join, again, resize   2 own id   3 own name   4 own host
--          5 connections asked for   6 cap, 0 for none   7 lease in ms
--          8 ms to stay in line, 0 for not at all   9 highest schema known
--          10 own document   11 own document when above the cap
--
-- Answers {commands, status, now, detail, all fields as found}. Status: 1 held, 2 held above the cap,
-- 0 full, -1 a newer schema (detail), -2 a field that is none of ours (detail).
local mode, own, name, host = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local asked, cap, lease, line, knows = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local longest = 86400000

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local all = redis.call('HGETALL', KEYS[1])
local commands = 2

local function text(n) return string.format('%.0f', n) end

local schema = nil
local entries = {}
for i = 1, #all, 2 do
  if all[i] == 'schema' then
    schema = tonumber(all[i + 1])
    if not schema then return {commands, -2, now, 'schema', {}} end
  else
    local kind, id = string.match(all[i], '^(%l+):(.+)$')
    if id then
      local e = entries[id]
      if not e then
        e = {fields = {}, values = {}}
        entries[id] = e
      end
      e.fields[#e.fields + 1] = all[i]
      e.values[kind] = all[i + 1]
    end
  end
end
-- Of a fleet that has left nothing is there but the number.
if schema and schema > knows and #all > 2 then return {commands, -1, now, text(schema), {}} end

local remove, set = {}, {}
local lowest, used, current, since = knows, 0, -1, now + longest
local waiting = {}
for id, e in pairs(entries) do
  local v = e.values
  local ends = tonumber(v['until'] or '')
  local doc = nil
  local gone = not ends or ends <= now or not (v.member or v.wait)
  if not gone then
    local ok, got = pcall(cjson.decode, v.member or v.wait)
    if not ok or type(got) ~= 'table' or type(got.connections) ~= 'number' or got.connections < 0 then
      return {commands, -2, now, id, {}}
    end
    doc = got
    -- A process that starts takes the place of the one before it.
    gone = id ~= own and mode == 'join' and doc.name == name and doc.host == host
  end
  if gone then
    for _, f in ipairs(e.fields) do remove[#remove + 1] = f end
  elseif id == own then
    if v.member then current = doc.connections end
    if v.wait then since = tonumber(v.since or '') or since end
  else
    -- After the clock went back, a place that nobody renews must come free all the same.
    if ends > now + longest then
      set[#set + 1] = 'until:' .. id
      set[#set + 1] = text(now + longest)
    end
    lowest = math.min(lowest, tonumber(doc.schema) or knows)
    if v.member then
      used = used + doc.connections
    else
      waiting[#waiting + 1] = {id = id, since = tonumber(v.since or '') or now, connections = doc.connections}
    end
  end
end
local ahead = 0
for _, w in ipairs(waiting) do
  if w.since < since or (w.since == since and w.id < own) then ahead = ahead + w.connections end
end

local above = cap > 0 and used + asked > cap
local status = 1
if mode == 'again' or (mode == 'resize' and asked <= current) then
  if above then status = 2 end
elseif cap > 0 and used + ahead + asked > cap then
  status = 0
end

if status > 0 then
  for _, f in ipairs({'wait:' .. own, 'since:' .. own}) do
    if entries[own] and entries[own].values[string.match(f, '^%l+')] then remove[#remove + 1] = f end
  end
  for _, v in ipairs({'member:' .. own, above and ARGV[11] or ARGV[10], 'until:' .. own, text(now + lease)}) do set[#set + 1] = v end
elseif mode == 'join' and line > 0 then
  if since > now then since = now end
  for _, v in ipairs({'wait:' .. own, ARGV[10], 'since:' .. own, text(since), 'until:' .. own, text(now + line)}) do set[#set + 1] = v end
end
if #set > 0 and lowest ~= schema then
  set[#set + 1] = 'schema'
  set[#set + 1] = text(lowest)
end
if #remove > 0 then
  redis.call('HDEL', KEYS[1], unpack(remove, 1, math.min(#remove, 3000)))
  commands = commands + 1
end
if #set > 0 then
  redis.call('HSET', KEYS[1], unpack(set))
  commands = commands + 1
end
return {commands, status, now, '', all}
