// Package redisstore keeps handoff's fence and its dead letters in Redis: a
// single server, Sentinel or a Cluster, 6.2 or later, or Valkey.
//
//	rdb := redis.NewClient(&redis.Options{Addr: "localhost:6379", ContextTimeoutEnabled: true})
//	router, err := handoff.NewRouter(handoff.RouterConfig{
//		Verifier:    verifier,
//		Store:       redisstore.New(rdb, nil),
//		DeadLetters: redisstore.NewDeadLetters(rdb, nil),
//	})
//
// A task costs two round trips, a claim and a mark, each one atomic script on
// one key. Long handlers add their share of a renewal that all running tasks
// of the process share.
//
// A server that has reached its maxmemory takes no new claims and no letters;
// what runs is still renewed, marked and released. Before Redis 7.0 there is no
// way to say so to the server: there these fail too, and work that succeeded
// may run again.
//
// The fence is as good as the server's memory. Set maxmemory-policy to
// noeviction: an evicted record is a forgotten claim. With appendonly and
// appendfsync always a killed server forgets nothing it acknowledged; with
// anything less, and in an asynchronous failover, it may forget the last
// moments, and a task that ran in them may run again.
package redisstore
