// Package middleware observes and limits the deliveries of a handoff router: logs,
// traces, metrics, concurrency, timeouts. All of it is optional. A router without
// it still authenticates callers, fences work and stores dead letters.
//
// [Logger], [Tracing] and [Metrics] are observers, for
// [handoff.RouterConfig].Observers. They observe every delivery, including refused
// ones. [Concurrency] and [Timeout] are middleware, for [handoff.Router.Use]. They
// run around the handler, after the task is claimed and decoded.
//
//	log, err := middleware.Logger(middleware.LoggerConfig{})
//	limit, err := middleware.Concurrency(middleware.ConcurrencyConfig{Limit: 8})
//	router, err := handoff.NewRouter(handoff.RouterConfig{
//		Observers: []handoff.Observer{log},
//		…
//	})
//	router.Use(limit)
//
// Tracing may be anywhere among the observers for its trace to be in the log lines.
// It must come before observers whose spans are to be children of its span.
//
// [Instrument] traces and counts enqueued tasks, for [handoff.ClientConfig], and
// [OutboxMetrics] measures an outbox of package sqlstore.
//
// Each function takes one struct, and returns an error that lists everything wrong
// with it. All results are safe for concurrent use. Tokens and payloads are never
// in a log line, an attribute or a label.
package middleware
