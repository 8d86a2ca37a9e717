-- One write to one session: state and log change together, or not at all.
--
-- KEYS  session:{S} (hash: version, state, data, person)   session-log:{S} (list of rows)
-- ARGV  action (create|heartbeat|update|end)  op id  TTL in seconds  expected version (update)  data (create, update)
--       person (create; may be left out: it is nobody's in particular)
-- Answer: {word, version}; word: done | conflict | missing | ended
--
-- A row is the JSON array [version,"op","hash"]; hash = the first 16 hex digits of the SHA-1 of the previous row's text
-- ("" in the first row). A write that was acknowledged, rolled back and written over leaves a chain that does not fit.

local ROWS_MAX = 64
local session, log = KEYS[1], KEYS[2]
local action, op, ttl = ARGV[1], ARGV[2], ARGV[3]

-- Also an answer that changes nothing else must be a write: WAIT answers for the last write on its connection.
local function touch()
  redis.call('EXPIRE', session, ttl)
  redis.call('EXPIRE', log, ttl)
end

local rows = redis.call('LRANGE', log, 0, -1)
for i = #rows, 1, -1 do
  if string.find(rows[i], ',"' .. op .. '",', 1, true) then
    touch()
    return {'done', tonumber(string.match(rows[i], '^%[(%d+),'))}
  end
end

local stored = redis.call('HMGET', session, 'version', 'state')
local version, state = tonumber(stored[1]), stored[2]

if action == 'create' then
  if version then return {'conflict', version} end
  version = 0
elseif not version then
  return {'missing', 0}
elseif state == 'ended' then
  return {'ended', version}
elseif action == 'update' and version ~= tonumber(ARGV[4]) then
  return {'conflict', version}
end

version = version + 1
if action == 'create' then
  redis.call('HSET', session, 'version', version, 'state', 'live', 'data', ARGV[5])
  if ARGV[6] then redis.call('HSET', session, 'person', ARGV[6]) end
elseif action == 'update' then
  redis.call('HSET', session, 'version', version, 'data', ARGV[5])
elseif action == 'end' then
  redis.call('HSET', session, 'version', version, 'state', 'ended')
else
  redis.call('HSET', session, 'version', version)
end

local last = rows[#rows]
local predecessor = last and string.sub(redis.sha1hex(last), 1, 16) or ''
redis.call('RPUSH', log, string.format('[%d,"%s","%s"]', version, op, predecessor))
redis.call('LTRIM', log, -ROWS_MAX, -1)
touch()
return {'done', version}
