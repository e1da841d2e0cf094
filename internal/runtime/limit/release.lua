-- Has a token bucket leave this side, so that it can count on the other one. KEYS: the bucket. ARGV: its
-- generation there and its level in microseconds, 0 where there is none, and for how many microseconds it is
-- remembered here that it left, at least. Answers: commands run, the generation with which it may count there
-- from now on, its level. One that left before with a later generation stays as it is.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local there, brought, keep = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local base, level, gen, left = string.match(redis.call('GET', KEYS[1]) or '', '^G1:(%d+):([%d.e+-]+):?(%d*):?(m?)$')
base, level, gen = tonumber(base or 0), tonumber(level or 0) or 0, tonumber(gen or '') or 0
level = math.ceil(math.max(0, base - now + level))
if left == 'm' and gen > there then return {2, gen, level} end
gen, level = math.max(gen, there) + 1, math.max(level, brought)
local text = string.format('G1:%.0f:%.0f:%.0f:m', now, level, gen)
redis.call('SET', KEYS[1], text, 'PX', string.format('%.0f', math.ceil(math.max(level, keep) / 1000)))
return {3, gen, level}
