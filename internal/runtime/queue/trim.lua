-- Removes completed jobs beyond a count, the oldest first, at most 1,000 at a time.
-- KEYS 1 completed  2 prefix of the hashes; ARGV 1 how many stay. Answers the commands run and how many went.
local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[1])
if over <= 0 then
  return {1, 0}
end
local ids = redis.call('ZRANGE', KEYS[1], 0, math.min(over, 1000) - 1)
local hashes = {}
for i, id in ipairs(ids) do
  hashes[i] = KEYS[2] .. id
end
redis.call('DEL', unpack(hashes))
redis.call('ZREM', KEYS[1], unpack(ids))
return {4, #ids}
