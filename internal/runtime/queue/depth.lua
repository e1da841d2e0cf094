-- Counts what a queue has. KEYS for each band: pending, scheduled, retry, active, archived, completed, paused,
-- prefix of the hashes. Answers the commands run, the six sums, how many bands are paused, and since when the
-- oldest pending job waits, Unix nanoseconds, 0 for none.
local calls = 0
local function call(...)
  calls = calls + 1
  return redis.call(...)
end
local sums, paused, oldest = {0, 0, 0, 0, 0, 0}, 0, 0
for b = 0, #KEYS / 8 - 1 do
  for i = 1, 6 do
    sums[i] = sums[i] + call((i == 1 or i == 4) and 'LLEN' or 'ZCARD', KEYS[b * 8 + i])
  end
  paused = paused + call('EXISTS', KEYS[b * 8 + 7])
  local id = call('LINDEX', KEYS[b * 8 + 1], -1)
  local since = id and call('HGET', KEYS[b * 8 + 8] .. id, 'pending_since')
  if since and (oldest == 0 or tonumber(since) < tonumber(oldest)) then
    oldest = since
  end
end
return {calls, sums[1], sums[2], sums[3], sums[4], sums[5], sums[6], paused, oldest}
