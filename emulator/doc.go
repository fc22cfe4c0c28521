// Package emulator is Google Cloud Tasks in your process: the real API, v2 and
// v2beta3, over gRPC and REST, with queues, schedules, rate limits, retries and
// signed HTTP dispatches, and all its state in memory. It is what miniredis is
// to Redis. It is for development and tests.
//
//	srv := emulator.RunT(t, emulator.Config{Handler: myHandler})
//	client, err := cloudtasks.NewClient(ctx, srv.ClientOptions()...)
//
// It follows what Google documents and what was recorded from the real service.
// README.md lists what had to be chosen where nothing is known.
//
// # Time
//
// There is no clock to inject and nothing to fast-forward: the server uses
// package time, so delays are real. Inside a testing/synctest bubble, where a
// server with a Handler needs no socket, they are virtual: a task scheduled for
// tomorrow that fails three times has ended in milliseconds.
package emulator
