-- KEYS 1 wait  2 paused  3 meta  4 prioritized  5 events  6 delayed  7 marker
-- ARGV 1 paused or resumed  2 how many jobs to move at most where both lists exist  3 major
-- Answers whether it was so before, how many jobs are still in the list they should leave, and how many
-- commands ran. The flag is set first: what fails after that is done by the next call.
local calls = 0
local function call(...)
  calls = calls + 1
  return redis.call(...)
end
for i, want in ipairs({'list', 'list', 'hash', 'zset', 'stream', 'zset', 'zset'}) do
  local is = call('TYPE', KEYS[i])['ok']
  if is ~= 'none' and is ~= want then return redis.error_reply('REDISOPT_WRONGTYPE ' .. KEYS[i]) end
end
local pause = ARGV[1] == 'paused'
local was = call('HEXISTS', KEYS[3], 'paused') == 1
local from, to = KEYS[1], KEYS[2]
if not pause then from, to = KEYS[2], KEYS[1] end -- no swap: the interpreter of the embedded Redis gets that wrong
if pause then
  call('HSET', KEYS[3], 'paused', 1)
  call('DEL', KEYS[7])
else
  call('HDEL', KEYS[3], 'paused')
end
local moves = not pause or tonumber(ARGV[3]) < 6 -- from 6 on a paused queue keeps its jobs where they are
if moves and call('EXISTS', from) == 1 then
  if call('EXISTS', to) == 0 then
    call('RENAME', from, to)
  else -- never over what is there: one by one, what is older nearer to the right
    for i = 1, tonumber(ARGV[2]) do
      if not (pause and call('LMOVE', from, to, 'RIGHT', 'LEFT') or not pause and call('LMOVE', from, to, 'LEFT', 'RIGHT')) then break end
    end
  end
end
if not pause then
  if call('LLEN', KEYS[1]) + call('ZCARD', KEYS[4]) > 0 then
    call('ZADD', KEYS[7], 0, '0')
  else
    local next = call('ZRANGE', KEYS[6], 0, 0, 'WITHSCORES')
    if next[2] then call('ZADD', KEYS[7], tonumber(next[2]) / 0x1000, '1') end
  end
end
call('XADD', KEYS[5], '*', 'event', ARGV[1])
return {was == pause and 1 or 0, moves and call('LLEN', from) or 0, calls}
