-- An article as it was read from the database, unless a later version of it is cached already.
--
-- KEYS  article:{A} (hash: version, op, body)
-- ARGV  version   op   body   when it ceases to be valid, in ms since 1970: however late this comes, it is over then
local stored = redis.call('HGET', KEYS[1], 'version')
if stored and tonumber(stored) >= tonumber(ARGV[1]) then
  return 0
end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'op', ARGV[2], 'body', ARGV[3])
redis.call('PEXPIREAT', KEYS[1], ARGV[4])
return 1
