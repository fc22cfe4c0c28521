// Package handoff hands typed payloads to Google Cloud Tasks and receives them
// in plain functions. Between the two nothing is lost, nothing runs twice, and
// nobody else gets in.
//
// Both sides share one type, which names itself:
//
//	type WelcomeEmail struct {
//		UserID string `json:"user_id"`
//	}
//
//	func (WelcomeEmail) Kind() string { return "welcome-email" }
//
// The producing service hands it over in one line:
//
//	receipt, err := client.Enqueue(ctx, WelcomeEmail{UserID: "42"}, handoff.In(time.Minute))
//
// The worker service receives it in a plain function:
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
// Cloud Tasks reads nothing but the status: a 2xx deletes the task, anything
// else retries it. So an error
// says what should happen, wrapped with %w at any depth:
//
//	nil                    200  done
//	Drop(err)              204  not wanted any more: deleted, no dead letter
//	Snooze(d)              202  a copy for later is enqueued, this one deleted
//	Permanent(err)         205  buried in the dead-letter store, then deleted
//	any error, any panic   500  retried with backoff; the last attempt is buried
//	RetryAfter(err, d)     503  retried, and the whole queue slows down
//	ErrBusy                409  retried with backoff, does not count as an attempt
//
// [Outcome] lists what else a delivery can come to.
//
// # What is promised
//
// A task is acknowledged only after its handler succeeded or its dead letter
// is stored. Deliveries of the same work are fenced by a [Store]: one runs,
// the others are told to wait or that it is done. No such fence can make an
// effect and its mark one step: a worker that dies between the two runs the
// task again. [Info].FencingToken and [Info].Attempt are there for the effects
// that must survive that.
//
// Every delivery is authenticated before a byte of it is believed. NewRouter
// refuses to be built without a [Verifier] and a Store.
//
// # Without the cloud
//
// Package emulator is a Cloud Tasks in your process that Google's own clients
// accept; package handofftest tests handlers through the real pipeline.
package handoff
