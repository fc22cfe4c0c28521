// Package handoff enqueues typed payloads with Google Cloud Tasks and handles
// them in plain functions. It authenticates every delivery, keeps two deliveries
// of the same work from running at once or again, and acknowledges a task only
// when its work is safe.
//
// The producer and the worker share one type, whose Kind names it:
//
//	type WelcomeEmail struct {
//		UserID string `json:"user_id"`
//	}
//
//	func (WelcomeEmail) Kind() string { return "welcome-email" }
//
// The producing service enqueues it in one line:
//
//	receipt, err := client.Enqueue(ctx, WelcomeEmail{UserID: "42"}, handoff.In(time.Minute))
//
// The worker service handles it in a plain function:
//
//	router, err := handoff.NewRouter(handoff.RouterConfig{
//		Verifier: verifier,                  // who may deliver
//		Store:    redisstore.New(rdb, nil),  // what already ran
//	})
//	handoff.Handle(router, func(ctx context.Context, e WelcomeEmail) error {
//		return mailer.Send(ctx, e.UserID)
//	})
//	e := echo.New()
//	router.Mount(e.Group("/tasks"))
//
// # What a handler returns
//
// Cloud Tasks reads only the status of a response: a 2xx deletes the task, any
// other status retries it. The error that a handler returns decides the status.
// It may be wrapped with %w at any depth:
//
//	nil                    200  done
//	Drop(err)              204  deleted, without a dead letter
//	Snooze(d)              202  a copy for later is enqueued, then this task is deleted
//	RetryIn(err, d)        202  the attempt failed; a copy due in d is enqueued, then this task is deleted
//	BusyFor(d)             202  a copy due in d is enqueued, then this task is deleted; not counted as an attempt
//	Continue()             202  a copy that continues the work is enqueued, then this task is deleted
//	Permanent(err)         205  buried in the dead-letter store, then deleted
//	any error, any panic   500  retried with backoff; buried after the last attempt
//	RetryAfter(err, d)     503  retried, and the whole queue slows down
//	ErrBusy                409  retried with backoff; not counted as an attempt
//
// [Outcome] lists all outcomes of a delivery.
//
// # What is promised
//
// A task is acknowledged only after its handler succeeded or its dead letter was
// stored. A [Store] fences deliveries of the same work: one runs, the others are
// retried or acknowledged as duplicates. A fence cannot make the handler's effect
// and the mark in the Store one step. If a worker dies between the two, the task
// runs again. Guard such effects with [Info].FencingToken.
//
// Every delivery is authenticated before anything else in it is read. [NewRouter]
// returns an error if the [Verifier] or the Store is missing.
//
// # Without the cloud
//
// Package emulator runs Cloud Tasks in your process, for Google's own clients.
// Package handofftest tests handlers through the real pipeline.
package handoff
