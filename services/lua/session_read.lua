-- KEYS  session:{S}; answer: {version, state, data}, or nil where there is no such session.
local stored = redis.call('HMGET', KEYS[1], 'version', 'state', 'data')
return stored[1] and stored or false
