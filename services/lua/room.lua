-- One room of a collaboration: number and append an edit, or read what a member missed.
--
-- KEYS  room:{R} (hash: epoch, seq, owner, bases)   room-log:{R} (list of rows [epoch,seq,"edit"])
--       room-edits:{R} (hash: edit -> "epoch seq")   room-members:{R} (sorted set: member -> when it is forgotten)
-- ARGV  1 seen epoch  2 seen seq: the highest position that anybody who asks has seen (-1 -1: none)
--       3 from epoch  4 from seq: read what follows this position (-1 -1: only the head)
--       5 rows at most  6 TTL in seconds
--       7 edit ("" : none)  8 the edit as a JSON string  9 rows that the log keeps
--       10... members that are here now
-- Answer: {epoch, seq, base, resume epoch, resume seq, rows, edit epoch, edit seq}; base = the seq at which the epoch
--         began; resume = -1 -1, or the position at which `from` has to take up again, because what it has beyond that
--         was rolled back.
--
-- Positions (epoch, seq) are never given twice. seq counts on through epochs; a new epoch begins whenever the log may
-- have lost its tail: another primary serves the room than the one that numbered last, the room is new (its epoch then
-- is the time, so that it lies above every one before a total loss), or somebody has seen more than is stored.

local BASES_MAX = 32
local MEMBER_TTL_S = 10
local room, log, edits, members = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local seen_epoch, seen_seq = tonumber(ARGV[1]), tonumber(ARGV[2])
local from_epoch, from_seq = tonumber(ARGV[3]), tonumber(ARGV[4])
local rows_max, ttl = tonumber(ARGV[5]), ARGV[6]
local edit, edit_json, keep = ARGV[7], ARGV[8], tonumber(ARGV[9])

local stored = redis.call('HMGET', room, 'epoch', 'seq', 'owner', 'bases')
local epoch, seq = tonumber(stored[1]), tonumber(stored[2] or '0')
local owner, bases = stored[3], cjson.decode(stored[4] or '[]')
local now = tonumber(redis.call('TIME')[1])
local me = redis.call('CLUSTER', 'MYID')

local function touch()
  for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ttl) end
end

local function begin_epoch(number)
  epoch = number
  bases[#bases + 1] = {epoch, seq}
  if #bases > BASES_MAX then table.remove(bases, 1) end
  redis.call('HSET', room, 'epoch', string.format('%.0f', epoch), 'seq', string.format('%.0f', seq),
    'owner', me, 'bases', cjson.encode(bases))
  touch()
end

if not epoch then
  begin_epoch(math.max(now, seen_epoch + 1))
elseif owner ~= me or seen_epoch > epoch or (seen_epoch == epoch and seen_seq > seq) then
  begin_epoch(math.max(epoch, seen_epoch) + 1)
end

for i = 10, #ARGV do redis.call('ZADD', members, now + MEMBER_TTL_S, ARGV[i]) end
if #ARGV > 9 then
  redis.call('ZREMRANGEBYSCORE', members, '-inf', now)
  touch()
end

local edit_epoch, edit_seq = -1, -1
if edit ~= '' then
  local at = redis.call('HGET', edits, edit)
  if at then
    edit_epoch, edit_seq = string.match(at, '^(%d+) (%d+)$')
    edit_epoch, edit_seq = tonumber(edit_epoch), tonumber(edit_seq)
  else
    seq = seq + 1
    edit_epoch, edit_seq = epoch, seq
    redis.call('HSET', room, 'seq', string.format('%.0f', seq))
    redis.call('HSET', edits, edit, string.format('%.0f %.0f', epoch, seq))
    redis.call('RPUSH', log, string.format('[%.0f,%.0f,%s]', epoch, seq, edit_json))
    if redis.call('LLEN', log) > keep then
      redis.call('HDEL', edits, cjson.decode(redis.call('LPOP', log))[3])
    end
  end
  touch()  -- also for an edit that was there already: WAIT answers for the last write on its connection
end

local resume, rows = {-1, -1}, {}
if from_epoch >= 0 then
  local from = from_seq
  for _, one in ipairs(bases) do
    if one[1] > from_epoch and one[2] < from then
      resume, from = one, one[2]
    end
  end
  local behind = math.min(seq - from, redis.call('LLEN', log))
  if behind > 0 then rows = redis.call('LRANGE', log, -behind, math.min(rows_max - behind - 1, -1)) end
end
return {epoch, seq, bases[#bases][2], resume[1], resume[2], rows, edit_epoch, edit_seq}
