-- Of readers that have heard nothing for a while: who has missed something? Changes nothing.
-- KEYS for each reader: job, journal
-- ARGV for each reader: the number of the last frame it has, 0 = none
-- Answers the places, from 1, of those whose journal goes on behind that frame, and of those whose
-- job is gone, was cancelled in the queue, or cannot be read.

local function missed(job, journal, known)
  -- pcall: an error here must not keep the others from their answer.
  local state = redis.pcall('HGET', job, 'state')
  if type(state) ~= 'string' or state == 'cancelled' then return true end
  local last = redis.pcall('XREVRANGE', journal, '+', '-', 'COUNT', 1)
  if last.err then return true end
  return last[1] ~= nil and tonumber(string.match(last[1][1], '^%d+')) > tonumber(known)
end

local found = {}
for n = 1, #ARGV do
  if missed(KEYS[2 * n - 1], KEYS[2 * n], ARGV[n]) then found[#found + 1] = n end
end
return found
