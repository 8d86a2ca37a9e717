-- KEYS  session:{S}; answer: {version, state, person}, or nil where there is no such session; person: nil if nobody's.
local stored = redis.call('HMGET', KEYS[1], 'version', 'state', 'person')
return stored[1] and stored or false
