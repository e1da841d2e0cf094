-- Looks one job up. KEYS the hashes under which it may be; ARGV 1 id.
-- Answers the commands run, then nothing or: which key, message, state, result, progress, items, score.
local calls = 0
local function call(...)
  calls = calls + 1
  return redis.call(...)
end
for i, key in ipairs(KEYS) do
  local got = call('HMGET', key, 'msg', 'state', 'result', 'progress', 'items')
  if got[1] then
    local score = false
    if got[2] ~= 'pending' and got[2] ~= 'active' then
      score = call('ZSCORE', string.sub(key, 1, -#ARGV[1] - 3) .. got[2], ARGV[1])
    end
    return {calls, {i, got[1], got[2] or '', got[3] or '', got[4] or '', got[5] or '', score or ''}}
  end
end
return {calls}
