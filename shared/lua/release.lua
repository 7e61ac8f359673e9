-- Hand a running job back to the head of its lane, journal and all: preemption and drain.
-- KEYS interactive, batch, leases, job
-- ARGV id, epoch, wake
-- Answers 1 handed back, 0 fenced. Not the job's fault: its attempts start anew.
local held = redis.call('HMGET', KEYS[4], 'epoch', 'state', 'lane', 'tag')
if held[1] ~= ARGV[2] or held[2] ~= 'running' then return 0 end
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZADD', held[3] == 'batch' and KEYS[2] or KEYS[1], held[4], ARGV[1])
redis.call('HSET', KEYS[4], 'state', 'queued', 'attempts', '0')
redis.call('PUBLISH', ARGV[3], '')
return 1
