-- Append one frame for each running job, push its lease forward, publish once a reply channel.
-- Also the heartbeat: a job with an empty frame only has its lease pushed.
-- KEYS leases, then for each job: job, journal
-- ARGV lease_ms, journal_ttl_s, then for each job: id, epoch, number, frame
-- Answers a verdict a job: 1 written, 0 fenced (another claim or none holds it), -1 cancelled,
-- -2 Redis could not write (out of memory): nothing was written, emit again.
local clock = redis.call('TIME')
local expiry = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000) + ARGV[1])
local verdicts, channels, frames = {}, {}, {}

local function append(journal, number, frame)
  -- pcall: an error here must not lose the jobs after this one. A number the journal has already is
  -- a repeat after a lost connection: readers drop numbers they know, so it is published again.
  local added = redis.pcall('XADD', journal, number .. '-0', 'f', frame)
  if type(added) == 'table' and added.err then
    return string.find(tostring(added.err), 'equal or smaller', 1, true) ~= nil
  end
  if number == '1' then redis.call('EXPIRE', journal, ARGV[2]) end
  return true
end

for n = 1, (#ARGV - 2) / 4 do
  local job, journal, at = KEYS[2 * n], KEYS[2 * n + 1], 4 * n - 1
  local id, epoch, number, frame = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local held = redis.call('HMGET', job, 'epoch', 'state', 'cancelled', 'reply')
  if held[1] ~= epoch or held[2] ~= 'running' then
    verdicts[n] = 0
  elseif held[3] then
    verdicts[n] = -1
  elseif frame ~= '' and not append(journal, number, frame) then
    verdicts[n] = -2
  else
    verdicts[n] = 1
    redis.call('ZADD', KEYS[1], expiry, id)
    if frame ~= '' then
      local channel = held[4]
      if not frames[channel] then
        frames[channel] = {}
        channels[#channels + 1] = channel
      end
      table.insert(frames[channel], frame)
    end
  end
end

for _, channel in ipairs(channels) do
  local batch = frames[channel]
  local count = #batch
  local header = count < 16 and string.char(0x90 + count)
    or string.char(0xdc, math.floor(count / 256), count % 256)
  redis.call('PUBLISH', channel, header .. table.concat(batch))
end
return verdicts
