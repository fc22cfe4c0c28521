// Package handoff enqueues typed payloads with Google Cloud Tasks and handles
// them in plain functions. Between the two nothing is lost, nothing runs twice,
// and nobody else gets in.
//
// Both sides share one type, which names itself:
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
// Cloud Tasks reads only the status of a response: a 2xx deletes the task,
// everything else retries it. So the error of a handler says what should happen,
// wrapped with %w at any depth:
//
//	nil                    200  done
//	Drop(err)              204  deleted, without a dead letter
//	Snooze(d)              202  a copy for later is enqueued, this one deleted
//	Permanent(err)         205  buried in the dead-letter store, then deleted
//	any error, any panic   500  retried with backoff; the last attempt is buried
//	RetryAfter(err, d)     503  retried, and the whole queue slows down
//	ErrBusy                409  retried with backoff, does not count as an attempt
//
// [Outcome] lists all outcomes of a delivery.
//
// # What is promised
//
// A task is acknowledged only after its handler succeeded or its dead letter was
// stored. A [Store] fences deliveries of the same work: one runs, the others are
// retried or acknowledged as duplicates. No fence can make an effect and its
// mark one step: a worker that dies between the two runs the task again. Guard
// such effects with [Info].FencingToken.
//
// Every delivery is authenticated before anything else in it is read. NewRouter
// fails without a [Verifier] and a Store.
//
// # Without the cloud
//
// Package emulator is Cloud Tasks in your process, for Google's own clients;
// package handofftest tests handlers through the real pipeline.
package handoff
