-- Lists jobs of one state over several bands, in the order of the bands.
-- KEYS the containers, then as many prefixes of hashes
-- ARGV 1 list, up or down: a list from its right end, or a sorted set from one end  2 offset  3 limit
-- Answers the commands run, how many there are in all, then for each: which band, message, score, result,
-- progress, items.
local calls = 0
local function call(...)
  calls = calls + 1
  return redis.call(...)
end
local n, total, out = #KEYS / 2, 0, {}
local skip, want = tonumber(ARGV[2]), tonumber(ARGV[3])
for i = 1, n do
  local size = call(ARGV[1] == 'list' and 'LLEN' or 'ZCARD', KEYS[i])
  total = total + size
  if skip >= size then
    skip = skip - size
  elseif want > 0 then
    local last = skip + want - 1
    local ids, scores = {}, {}
    if ARGV[1] == 'list' then
      local got = call('LRANGE', KEYS[i], -(last + 1), -(skip + 1))
      for j = #got, 1, -1 do
        ids[#ids + 1] = got[j]
      end
    else
      local got = call(ARGV[1] == 'up' and 'ZRANGE' or 'ZREVRANGE', KEYS[i], skip, last, 'WITHSCORES')
      for j = 1, #got, 2 do
        ids[#ids + 1] = got[j]
        scores[#ids] = got[j + 1]
      end
    end
    for j, id in ipairs(ids) do
      local got = call('HMGET', KEYS[n + i] .. id, 'msg', 'result', 'progress', 'items')
      if got[1] then
        out[#out + 1] = {i, got[1], scores[j] or '', got[2] or '', got[3] or '', got[4] or ''}
      end
    end
    skip, want = 0, want - #ids
  end
end
table.insert(out, 1, total)
table.insert(out, 1, calls)
return out
