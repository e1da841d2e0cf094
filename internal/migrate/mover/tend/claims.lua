-- Before every script that acts on claims.
-- ARGV 1 what keys of jobs begin with  2 now  3 token of events  4 major  5 a word for this script
--      6 how many fields were seen, then those, then id and seal of each claim; no seal: nothing was asked
-- Answers one letter for each claim, and how many commands ran.
--   d done  g gone from there  c changed  l locked  m no job under the id  w no hash  s a schedule's next run
--   f has children  p its parent waits for it  a may be active  k a mark of the library's, no job
local base, now, token, word = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local calls = 0
local function call(...)
  calls = calls + 1
  return redis.call(...)
end
local wrong = nil
local function typed(key, want)
  local is = call('TYPE', key)['ok']
  if is ~= 'none' and is ~= want then wrong = wrong or key end
end
local names = {}
for i = 1, tonumber(ARGV[6]) do names[i] = ARGV[6 + i] end
local function changed(key, seal)
  if seal == '' then return false end
  local values, parts = call('HMGET', key, unpack(names)), {}
  for i = 1, #names do
    parts[i] = values[i] and (#values[i] .. ':' .. values[i]) or '-'
  end
  return redis.sha1hex(table.concat(parts)) ~= seal
end
local function locked(key)
  return call('TYPE', key .. ':lock')['ok'] == 'string'
end
local function json(text)
  local ok, value = pcall(cjson.decode, text or '')
  return ok and type(value) == 'table' and value or {}
end
-- Whether id is the run that the schedule of that name waits for: ids end in the time of the run.
local function pending(schedules, name, id)
  local at = type(name) == 'string' and call('ZSCORE', schedules, name)
  return at and string.sub(id, -#at - 1) == ':' .. at
end
local function each(act)
  if wrong then return redis.error_reply('REDISOPT_WRONGTYPE ' .. wrong) end
  local status = {}
  for i = 7 + #names, #ARGV, 2 do
    status[#status + 1] = act(ARGV[i], base .. ARGV[i], ARGV[i + 1])
  end
  return {table.concat(status), calls}
end
