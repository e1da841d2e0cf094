-- Removes a job that waits. KEYS the hashes under which it may be; ARGV 1 id.
-- Answers the commands run, then nothing, or its state and under which key it is: one that is active, or has ended, is
-- left alone.
local calls = 0
local function call(...)
  calls = calls + 1
  return redis.call(...)
end
for i, key in ipairs(KEYS) do
  local state = call('HGET', key, 'state')
  if state then
    local container = string.sub(key, 1, -#ARGV[1] - 3) .. state
    if state == 'pending' then
      call('LREM', container, 0, ARGV[1])
    elseif state == 'scheduled' or state == 'retry' then
      call('ZREM', container, ARGV[1])
    else
      return {calls, state, i}
    end
    local lock = call('HGET', key, 'unique_key')
    if lock and call('GET', lock) == ARGV[1] then
      call('DEL', lock)
    end
    call('DEL', key)
    return {calls, state, i}
  end
end
return {calls}
