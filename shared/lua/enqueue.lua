-- Accept a job: refuse it, or queue it at its fair place. Repeating an accepted call changes nothing.
-- KEYS interactive, batch, fair, job, payload, catalog
-- ARGV id, payload, model, tenant, lane, cost, weight, reply, max_queue, deadline_ms, job_ttl_s,
--      fair_ttl_s, wake, '1' if the catalog must have the model, keep_s (0: as any ended job)
-- Answers {1, position, depth} queued (position counts from 1), {0} unknown model, {-1, depth} full.
local id, lane = ARGV[1], ARGV[5]
local lane_key = lane == 'batch' and KEYS[2] or KEYS[1]

local function answer()
  local rank = redis.call('ZRANK', lane_key, id)
  local waiting = redis.call('ZCARD', KEYS[1])
  local depth = waiting + redis.call('ZCARD', KEYS[2])
  if not rank then return {1, 0, depth} end
  return {1, (lane == 'batch' and waiting or 0) + rank + 1, depth}
end

if redis.call('EXISTS', KEYS[4]) == 1 then return answer() end
if ARGV[14] == '1' and redis.call('HEXISTS', KEYS[6], ARGV[3]) == 0 then return {0} end
local depth = redis.call('ZCARD', KEYS[1]) + redis.call('ZCARD', KEYS[2])
if depth >= tonumber(ARGV[9]) then return {-1, depth} end

-- Start-time fair queueing: a job starts where virtual time is, or where its tenant's last one ends.
local finish_field = 'f:' .. lane .. ':' .. ARGV[4]
local times = redis.call('HMGET', KEYS[3], 'v:' .. lane, finish_field)
local tag = math.max(tonumber(times[1] or 0), tonumber(times[2] or 0))
redis.call('HSET', KEYS[3], finish_field, tostring(tag + tonumber(ARGV[6]) / tonumber(ARGV[7])))
redis.call('EXPIRE', KEYS[3], ARGV[12])

local clock = redis.call('TIME')
redis.call('SET', KEYS[5], ARGV[2], 'EX', ARGV[11])
redis.call('HSET', KEYS[4], 'state', 'queued', 'epoch', '0', 'attempts', '0', 'tenant', ARGV[4],
  'lane', lane, 'model', ARGV[3], 'tag', tostring(tag), 'reply', ARGV[8],
  'deadline_ms', ARGV[10], 'queued_ms', string.format('%.3f', clock[1] * 1000 + clock[2] / 1000))
if ARGV[15] ~= '0' then redis.call('HSET', KEYS[4], 'keep_s', ARGV[15]) end
redis.call('EXPIRE', KEYS[4], ARGV[11])
redis.call('ZADD', lane_key, tostring(tag), id)
redis.call('PUBLISH', ARGV[13], '')
return answer()
