-- KEYS  room-members:{R}; ARGV  a member that leaves ("": none). Answer: the members that are in the room, over all instances.
if ARGV[1] ~= '' then redis.call('ZREM', KEYS[1], ARGV[1]) end
return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. redis.call('TIME')[1], '+inf')
