-- KEYS  room-members:{R}; ARGV  the members that are here now, for another while.
local MEMBER_TTL_S = 10
local now = tonumber(redis.call('TIME')[1])
for _, member in ipairs(ARGV) do redis.call('ZADD', KEYS[1], now + MEMBER_TTL_S, member) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('EXPIRE', KEYS[1], MEMBER_TTL_S)
return 'OK'
