-- Nobody wants this job any more: drop it from the queue, or tell the worker that runs it.
-- KEYS interactive, batch, job, payload, journal
-- ARGV id, ended_ttl_s, control channel, cancel order
-- Answers 1 removed from the queue, 2 running and told to stop, 0 unknown or over already.
local held = redis.call('HMGET', KEYS[3], 'state', 'keep_s')
local state, life = held[1], held[2] or ARGV[2]
if state == 'queued' then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('HSET', KEYS[3], 'state', 'cancelled', 'cancelled', '1')
  redis.call('DEL', KEYS[4])
  redis.call('EXPIRE', KEYS[3], life)
  redis.call('EXPIRE', KEYS[5], life)
  return 1
end
if state == 'running' then
  redis.call('HSET', KEYS[3], 'cancelled', '1')
  redis.call('PUBLISH', ARGV[3], ARGV[4])
  return 2
end
return 0
