-- Answers workflows in which something is to be done by a moment: at, how many.
return ask('ZRANGEBYSCORE', KEY.workflow_due, '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
