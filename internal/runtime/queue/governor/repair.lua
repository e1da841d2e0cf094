-- KEYS: the list of active jobs, the leases. ARGV: when a new lease ends, how old a lease must be to be
-- taken away, the beginning of the keys of jobs, how many to look at.
local most = tonumber(ARGV[4])
local active = redis.call('LRANGE', KEYS[1], 0, most)
local known, repaired, commands = {}, 0, 2
for _, id in ipairs(active) do
  known[id] = true
  repaired = repaired + redis.call('ZADD', KEYS[2], 'NX', ARGV[1], id)
  commands = commands + 1
end
local old = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[2], 'LIMIT', 0, most)
for _, id in ipairs(old) do
  local gone = redis.call('EXISTS', ARGV[3] .. id) == 0
  commands = commands + 1
  -- A list that was not read to its end says nothing about who is not in it.
  if gone or (not known[id] and #active <= most) then
    redis.call('ZREM', KEYS[2], id)
    commands, repaired = commands + 1, repaired + 1
  end
  if gone and known[id] then
    redis.call('LREM', KEYS[1], 0, id)
    commands = commands + 1
  end
end
return {repaired, commands}
