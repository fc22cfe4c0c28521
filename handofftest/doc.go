// Package handofftest tests handlers, producers and stores with the real parts
// of handoff: the real pipeline, signed tokens, exact headers, the real Cloud
// Tasks client. Nothing here needs a network, a Redis or a cloud.
//
// A handler is a plain function, which a test can call without this package.
// [Deliver] shows how the router responds to Cloud Tasks for it:
//
//	result := handofftest.Deliver(t, router, WelcomeEmail{UserID: "42"})
//	if result.Outcome != handoff.Done { … }
//
// [NewRecorder] returns a client that records what a producer enqueues:
//
//	recorder := handofftest.NewRecorder(t)
//	signUp(ctx, recorder.Client, "42")
//	task := handofftest.RequireEnqueued[WelcomeEmail](t, recorder)
//
// A [Kit] runs both with Cloud Tasks between them, with retries, schedules and
// faults. It works in real time, or in a testing/synctest bubble, where a day of
// backoff takes milliseconds:
//
//	kit := handofftest.New(t)
//	handoff.Handle(kit.Router, sendWelcome)
//	kit.Client.Enqueue(ctx, WelcomeEmail{UserID: "42"}, handoff.In(24*time.Hour))
//	kit.LoseResponses(1)
//	results := kit.Drain()
//
// # A store of your own
//
// [TestStore] and [TestDeadLetterStore] test an implementation of [handoff.Store]
// or [handoff.DeadLetterStore] in a few lines:
//
//	func TestStore(t *testing.T) {
//		handofftest.TestStore(t, func(t *testing.T) handoff.Store {
//			return mystore.New(connect(t))
//		})
//	}
//
// Their documentation says what they need of the store. They cannot test crashes,
// failovers or lost connections.
//
// # Common rules
//
// Every function takes the test, cleans up when the test ends, and may be used in
// parallel tests. None sleeps to wait for an event. A failure shows what
// happened, not only what did not.
package handofftest
