-- Keeps of each schedule only the newest pending job. KEYS 1 pending  2 prefix of the hashes.
-- Answers the commands run and how many went.
local calls = 0
local function call(...)
  calls = calls + 1
  return redis.call(...)
end
local seen, gone = {}, 0
for _, id in ipairs(call('LRANGE', KEYS[1], 0, -1)) do
  local schedule = call('HGET', KEYS[2] .. id, 'schedule')
  if schedule and seen[schedule] then
    call('LREM', KEYS[1], -1, id)
    call('DEL', KEYS[2] .. id)
    gone = gone + 1
  elseif schedule then
    seen[schedule] = true
  end
end
return {calls, gone}
