// Package handofftest tests handlers, producers and stores with the real parts
// of handoff: the real pipeline, signed tokens, exact headers, the real Cloud
// Tasks client. Nothing here needs a network, a Redis or a cloud.
//
// To test a handler, deliver a task to the router that serves it:
//
//	result := handofftest.Deliver(t, router, WelcomeEmail{UserID: "42"})
//	if result.Outcome != handoff.Done { … }
//
// To test a producer, give it a client that records:
//
//	recorder := handofftest.NewRecorder(t)
//	signUp(ctx, recorder.Client, "42")
//	task := handofftest.RequireEnqueued[WelcomeEmail](t, recorder)
//
// To test both with Cloud Tasks between them, in real time or in a
// testing/synctest bubble, use [New]. To test a store of your own, use
// [TestStore] and [TestDeadLetterStore].
//
// Everything works with any testing.TB and in parallel tests.
package handofftest
