local cmsgpack, bit = (function()
  local byte, sub = string.byte, string.sub
  local function uint(s, at, n)
    local v = 0
    for i = 0, n - 1 do v = v * 256 + byte(s, at + i) end
    return v, at + n
  end
  local function int(s, at, n)
    if byte(s, at) < 128 then return uint(s, at, n) end
    local v = 0
    for i = 0, n - 1 do v = v * 256 + 255 - byte(s, at + i) end
    return -v - 1, at + n
  end
  local function float(s, at, n, ebits, bias)
    local mbits = n * 8 - 1 - ebits
    local top = uint(s, at, 2)
    local sign = top >= 32768 and -1 or 1
    top = top % 32768
    local spare = 15 - ebits
    local e = math.floor(top / 2 ^ spare)
    local m = top % 2 ^ spare
    for i = 2, n - 1 do m = m * 256 + byte(s, at + i) end
    if e == 2 ^ ebits - 1 then
      if m == 0 then return sign * math.huge, at + n end
      return 0 / 0, at + n
    end
    if e == 0 then return sign * m * 2 ^ (1 - bias - mbits), at + n end
    return sign * (1 + m / 2 ^ mbits) * 2 ^ (e - bias), at + n
  end
  local one
  local function array(s, at, n)
    local t = {}
    for i = 1, n do t[i], at = one(s, at) end
    return t, at
  end
  local function map(s, at, n)
    local t = {}
    for i = 1, n do
      local k, v
      k, at = one(s, at)
      v, at = one(s, at)
      if k ~= nil then t[k] = v end
    end
    return t, at
  end
  local function str(s, at, n) return sub(s, at, at + n - 1), at + n end
  one = function(s, at)
    local c = byte(s, at)
    if not c then error('Missing bytes in input.') end
    at = at + 1
    local n
    if c < 128 then return c, at end
    if c < 144 then return map(s, at, c - 128) end
    if c < 160 then return array(s, at, c - 144) end
    if c < 192 then return str(s, at, c - 160) end
    if c >= 224 then return c - 256, at end
    if c == 192 then return nil, at end
    if c == 194 then return false, at end
    if c == 195 then return true, at end
    if c >= 196 and c <= 198 then n, at = uint(s, at, 2 ^ (c - 196)) return str(s, at, n) end
    if c == 202 then return float(s, at, 4, 8, 127) end
    if c == 203 then return float(s, at, 8, 11, 1023) end
    if c >= 204 and c <= 207 then return uint(s, at, 2 ^ (c - 204)) end
    if c >= 208 and c <= 211 then return int(s, at, 2 ^ (c - 208)) end
    if c >= 217 and c <= 219 then n, at = uint(s, at, 2 ^ (c - 217)) return str(s, at, n) end
    if c == 220 or c == 221 then n, at = uint(s, at, 2 ^ (c - 219)) return array(s, at, n) end
    if c == 222 or c == 223 then n, at = uint(s, at, 2 ^ (c - 221)) return map(s, at, n) end
    error('Bad data format in input.')
  end
  local function all(s)
    local out, n, at = {}, 0, 1
    while at <= #s do
      n = n + 1
      out[n], at = one(s, at)
    end
    return unpack(out, 1, n)
  end
  local function band(a, b)
    local v, p = 0, 1
    a = a % 4294967296
    b = b % 4294967296
    while a > 0 and b > 0 do
      if a % 2 == 1 and b % 2 == 1 then v = v + p end
      a = math.floor(a / 2)
      b = math.floor(b / 2)
      p = p * 2
    end
    if v >= 2147483648 then v = v - 4294967296 end
    return v
  end
  return { unpack = all }, { band = band }
end)();
