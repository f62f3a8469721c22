-- Answers the names of all models. KEYS: the set of them.
-- To order many names takes long, and these may be those of another set.
if redis.call('SCARD', MODEL) > 10000 then error('more than 10000 models') end
local names = redis.call('SMEMBERS', MODEL)
table.sort(names)
table.insert(names, 1, 'ok')
return names
