-- Answers the names of all models. KEYS: the set of them.
local names = redis.call('SMEMBERS', MODEL)
table.sort(names)
table.insert(names, 1, 'ok')
return names
