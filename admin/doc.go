// Package admin manages the queues and tasks of Cloud Tasks: it creates,
// updates, pauses, purges and deletes queues, and lists, runs and deletes tasks.
//
// The configuration of a queue is a [QueueConfig], written in Go, loaded from
// YAML by [Load], or derived from payload types by [QueuesOf].
// [Queues.EnsureAll] creates or updates the queues to match, and returns the
// changes:
//
//	a, err := admin.New(ctx, admin.Config{Project: "my-project", Location: "europe-west1"})
//	change, err := a.Queues().Ensure(ctx, admin.QueueConfig{ID: "emails", MaxDispatchesPerSecond: 50})
//	fmt.Println(change) // queue emails: update max_dispatches_per_second 100 → 50
//
// Everything goes over gRPC, through v2 of the API; only what v2 does not have,
// statistics and the lifetimes of tasks and of their names, goes through v2beta3.
// Mistakes that can be found before a call are reported before it: see
// [ErrInvalid].
//
// The service is eventually consistent: a new queue may not be found for a minute,
// and a purge may take a minute. The documentation of a method says if it waits for
// that; it then waits until its context ends.
package admin
