-- End a job: write its last frame, drop lease and payload, start the lifetimes, account usage.
-- KEYS leases, job, journal, payload, retry, tenant
-- ARGV id, epoch, number, frame, ended_ttl_s, state, prompt_tokens, completion_tokens
-- Answers 1 ended, 0 fenced, 2 was ended already (a repeat), -2 Redis could not write: finish again.
local held = redis.call('HMGET', KEYS[2], 'epoch', 'state', 'reply', 'keep_s')
if held[1] ~= ARGV[2] then return 0 end
if held[2] == 'done' or held[2] == 'failed' then return 2 end
if held[2] ~= 'running' then return 0 end

local added = redis.pcall('XADD', KEYS[3], ARGV[3] .. '-0', 'f', ARGV[4])
if type(added) == 'table' and added.err and not string.find(tostring(added.err), 'equal or smaller', 1, true) then
  return -2
end
local clock = redis.call('TIME')
local now = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000))
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[2], 'state', ARGV[6], 'ended_ms', now)
redis.call('EXPIRE', KEYS[2], held[4] or ARGV[5])
redis.call('EXPIRE', KEYS[3], held[4] or ARGV[5])
redis.call('DEL', KEYS[4], KEYS[5])
redis.call('HINCRBY', KEYS[6], 'jobs', 1)
redis.call('HINCRBY', KEYS[6], 'prompt_tokens', ARGV[7])
redis.call('HINCRBY', KEYS[6], 'completion_tokens', ARGV[8])
redis.call('PUBLISH', held[3], string.char(0x91) .. ARGV[4])
return 1
