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
// A task costs two round trips, a claim and a mark. Each is one atomic script on
// one key. The leases of long handlers are renewed together, by one round trip
// for all running tasks of the process.
//
// A server that has reached its maxmemory refuses new claims and new letters, but
// still renews, marks and releases the work that runs. Servers before Redis 7.0
// refuse those as well, and then work that succeeded may run again.
//
// Work runs again if the server loses its record. Set maxmemory-policy to
// noeviction, so that no record is evicted. With appendonly yes and appendfsync
// always, a killed server loses nothing that it acknowledged. With weaker
// persistence, and in an asynchronous failover, it may lose its latest writes, and
// the tasks that those writes recorded may run again.
package redisstore
