-- KEYS 1 wait  2 paused  3 meta-paused  4 meta  5 channel of the event
-- ARGV 1 paused or resumed  2 how many jobs to move at most where both lists exist
-- Answers whether it was so before, how many jobs are still in the list they should leave, and how many
-- commands ran. The flags are set first: what fails after that is done by the next call.
local calls = 0
local function call(...)
  calls = calls + 1
  return redis.call(...)
end
for i, want in ipairs({'list', 'list', 'string', 'hash'}) do
  local is = call('TYPE', KEYS[i])['ok']
  if is ~= 'none' and is ~= want then return redis.error_reply('REDISOPT_WRONGTYPE ' .. KEYS[i]) end
end
local pause = ARGV[1] == 'paused'
local was = call('EXISTS', KEYS[3]) == 1
local from, to = KEYS[1], KEYS[2]
if not pause then from, to = KEYS[2], KEYS[1] end -- no swap: the interpreter of the embedded Redis gets that wrong
if pause then
  call('SET', KEYS[3], 1)
  call('HSET', KEYS[4], 'paused', 1)
else
  call('DEL', KEYS[3])
  call('HDEL', KEYS[4], 'paused')
end
if call('EXISTS', from) == 1 then
  if call('EXISTS', to) == 0 then
    call('RENAME', from, to)
  else -- never over what is there: one by one, what is older nearer to the right
    for i = 1, tonumber(ARGV[2]) do
      if not (pause and call('LMOVE', from, to, 'RIGHT', 'LEFT') or not pause and call('LMOVE', from, to, 'LEFT', 'RIGHT')) then break end
    end
  end
end
call('PUBLISH', KEYS[5], ARGV[1])
return {was == pause and 1 or 0, call('LLEN', from), calls}
