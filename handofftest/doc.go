// Package handofftest tests handlers, producers and stores with the real parts
// of handoff: the real pipeline, signed tokens, exact headers, the real Cloud
// Tasks client. Nothing here needs a network, a Redis or a cloud.
//
// What a handler does is a plain function's business, and needs nothing of
// this package. What its router answers to Cloud Tasks, [Deliver] shows:
//
//	result := handofftest.Deliver(t, router, WelcomeEmail{UserID: "42"})
//	if result.Outcome != handoff.Done { … }
//
// What a producer enqueues, a client that records shows:
//
//	recorder := handofftest.NewRecorder(t)
//	signUp(ctx, recorder.Client, "42")
//	task := handofftest.RequireEnqueued[WelcomeEmail](t, recorder)
//
// What comes of both with Cloud Tasks between them, retries, schedules and
// faults included, a [Kit] shows, in real time or in a testing/synctest bubble,
// where a day of backoff takes milliseconds:
//
//	kit := handofftest.New(t)
//	handoff.Handle(kit.Router, sendWelcome)
//	kit.Client.Enqueue(ctx, WelcomeEmail{UserID: "42"}, handoff.In(24*time.Hour))
//	kit.LoseResponses(1)
//	results := kit.Drain()
//
// # A store of your own
//
// A [handoff.Store] or [handoff.DeadLetterStore] proves itself by a conformance
// suite, in a dozen lines:
//
//	func TestStore(t *testing.T) {
//		handofftest.TestStore(t, func(t *testing.T) handoff.Store {
//			return mystore.New(connect(t))
//		})
//	}
//
// [TestStore] and [TestDeadLetterStore] say what they need of the store, and
// what they cannot see: crashes, failovers and lost connections.
//
// # In common
//
// Everything takes a testing.TB, cleans up when that ends, and may be used by
// parallel tests. Nothing sleeps to wait for something else. A failure says
// what there was, not only what there was not.
package handofftest
