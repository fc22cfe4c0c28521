-- ARGV: ID.
forget(ARGV[2])
return 1
