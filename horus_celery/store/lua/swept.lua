-- Adds what a sweep found to the tally: kind and number of each.
for i = 1, #ARGV, 2 do count(ARGV[i + 1], 'swept', '', ARGV[i]) end
return 1
