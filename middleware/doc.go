// Package middleware watches and limits the deliveries of a handoff router:
// logs, traces, metrics, concurrency, timeouts. Nothing in it is needed for
// safety; a router without any of it authenticates, fences and buries all the
// same.
//
// [Logger], [Tracing] and [Metrics] are observers, for
// [handoff.RouterConfig].Observers: they are told of every delivery, refused
// ones included. [Concurrency] and [Timeout] are middleware, for
// [handoff.Router.Use]: they run where the task is claimed, decoded and under
// its deadline.
//
//	log, err := middleware.Logger(middleware.LoggerConfig{})
//	limit, err := middleware.Concurrency(middleware.ConcurrencyConfig{Limit: 8})
//	router, err := handoff.NewRouter(handoff.RouterConfig{
//		Observers: []handoff.Observer{log},
//		…
//	})
//	router.Use(limit)
//
// The order of the observers matters in one way: the trace of Tracing is that
// of the log lines wherever it stands, and the parent of the spans that
// observers after it begin.
//
// The enqueueing side is [Instrument], for [handoff.ClientConfig].
//
// Each is made by one function from one struct, which returns an error that
// says all that is wrong with it. All are safe for concurrent use. Tokens and
// payloads never reach a log line, an attribute or a label.
package middleware
