-- From now on another channel hears a job's frames; what came before is in the journal.
-- KEYS job
-- ARGV reply channel
-- Answers 1, 0 for an unknown job.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'reply', ARGV[1])
return 1
