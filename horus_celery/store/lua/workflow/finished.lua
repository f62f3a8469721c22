-- Answers workflows that ended before a moment, oldest first: at, how many.
return ask('ZRANGEBYSCORE', KEY.workflow_ended, '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])
