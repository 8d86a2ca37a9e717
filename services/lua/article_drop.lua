-- KEYS  article:{A}; answer: whether it was cached.
return redis.call('DEL', KEYS[1])
