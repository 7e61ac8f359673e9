-- Take up to k jobs for a worker: expired leases go back first, interactive before batch.
-- KEYS interactive, batch, leases, fair
-- ARGV worker, k, lease_ms, max_attempts, job prefix, payload prefix, journal prefix
-- Answers {ms until the next lease expires or -1, {{id, epoch, verdict, payload, wait_ms}, ...}}.
-- verdict: 'run'; 'crashed' (its workers died max_attempts times without progress); 'late'.
-- A job with another verdict is leased too: the claimer ends it, as it would end any other.
local worker, lease_ms, max_attempts = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local clock = redis.call('TIME')
local exact = clock[1] * 1000 + clock[2] / 1000
local now = math.floor(exact)

for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', string.format('%.0f', now))) do
  local job = ARGV[5] .. id
  local held = redis.call('HMGET', job, 'lane', 'tag')
  redis.call('ZREM', KEYS[3], id)
  if held[1] then
    redis.call('ZADD', held[1] == 'batch' and KEYS[2] or KEYS[1], held[2], id)
    redis.call('HSET', job, 'state', 'queued')
  end
end

local function take(id, lane, tag)
  local job = ARGV[5] .. id
  local payload = redis.call('GET', ARGV[6] .. id)
  if not payload then return nil end
  local virtual = 'v:' .. lane
  if tonumber(tag) > tonumber(redis.call('HGET', KEYS[4], virtual) or 0) then
    redis.call('HSET', KEYS[4], virtual, tag)
  end
  local last = redis.call('XREVRANGE', ARGV[7] .. id, '+', '-', 'COUNT', 1)
  local seen = last[1] and last[1][1] or '0'
  local held = redis.call('HMGET', job, 'seen', 'attempts', 'deadline_ms', 'queued_ms', 'wait_ms')
  local attempts = held[1] == seen and tonumber(held[2]) + 1 or 1
  local epoch = redis.call('HINCRBY', job, 'epoch', 1)
  local wait_ms = held[5] or string.format('%.3f', exact - tonumber(held[4]))
  redis.call('HSET', job, 'state', 'running', 'worker', worker, 'attempts', attempts,
    'seen', seen, 'wait_ms', wait_ms)
  redis.call('ZADD', KEYS[3], string.format('%.0f', now + lease_ms), id)
  local verdict = 'run'
  if attempts > max_attempts then verdict = 'crashed'
  elseif tonumber(held[3]) > 0 and seen == '0' and now > tonumber(held[3]) then verdict = 'late' end
  return {id, epoch, verdict, payload, wait_ms}
end

local taken, k = {}, tonumber(ARGV[2])
for at, lane in ipairs({'interactive', 'batch'}) do
  while #taken < k do
    local head = redis.call('ZPOPMIN', KEYS[at])
    if not head[1] then break end
    taken[#taken + 1] = take(head[1], lane, head[2])
  end
end

local soonest = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
return {soonest[2] and math.max(0, tonumber(soonest[2]) - now) or -1, taken}
