-- ARGV: ID.
forget(ARGV[4])
return 1
