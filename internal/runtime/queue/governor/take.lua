-- Takes jobs of several queues, each as asynq takes one. What fails in one queue leaves the others alone.
--
-- KEYS for each queue: pending, paused, active, lease
-- ARGV 1 end of the leases, Unix seconds, then for each queue: what the keys of its jobs begin with, and how many
--      jobs at most
--
-- Answers the number of commands run, then for each queue a list: an error or "", and the messages of the jobs, ""
-- for one that has none.
local calls = 0
local function call(...)
  calls = calls + 1
  return redis.pcall(...)
end

local function failed(reply) return type(reply) == 'table' and reply.err end

local all = {}
for k = 2, #KEYS, 4 do
  all[#all + 1] = KEYS[k]
end
local paused = call('EXISTS', unpack(all))

local function take(pending, pause, active, lease, prefix, most)
  local out = {''}
  if failed(paused) then
    return {paused.err}
  end
  if paused > 0 and call('EXISTS', pause) ~= 0 then
    return out
  end
  for _ = 1, most do
    local id = call('RPOPLPUSH', pending, active)
    if failed(id) then
      out[1] = id.err
      return out
    end
    if not id then
      return out
    end
    local task = prefix .. id
    -- The lease first: a job that has one is tried again, whatever else is wrong with it.
    local wrong = failed(call('ZADD', lease, ARGV[1], id)) or failed(call('HSET', task, 'state', 'active'))
      or failed(call('HDEL', task, 'pending_since'))
    if wrong then
      out[1] = wrong
      return out
    end
    out[#out + 1] = call('HGET', task, 'msg') or ''
  end
  return out
end

local out = {0}
for i = 0, #KEYS / 4 - 1 do
  local k, a = 4 * i, 2 * i
  out[#out + 1] = take(KEYS[k + 1], KEYS[k + 2], KEYS[k + 3], KEYS[k + 4], ARGV[a + 2], tonumber(ARGV[a + 3]))
end
out[1] = calls
return out
