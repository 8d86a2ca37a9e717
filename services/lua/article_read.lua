-- KEYS  article:{A}; answer: {version, op, body}, or nil where it is not cached.
local stored = redis.call('HMGET', KEYS[1], 'version', 'op', 'body')
return stored[1] and stored or false
