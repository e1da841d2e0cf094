-- Deletes the ledger.
-- KEYS 1 fence, then the keys of the ledger
-- ARGV 1 fence token
if ARGV[1] ~= '' and redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('REDISOPT_FENCED the lease on this migration was lost')
end
return redis.call('DEL', unpack(KEYS, 2))
