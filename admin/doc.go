// Package admin is the control plane of Cloud Tasks as plain Go: it creates
// queues and keeps them as they should be, pauses, purges and deletes them,
// and looks into them, task by task.
//
// What a queue should be is a [QueueConfig], written in Go, loaded from YAML by
// [Load], or listed from payload types by [QueuesOf]. [Queues.EnsureAll] makes
// it so and says what differed:
//
//	a, err := admin.New(ctx, admin.Config{Project: "my-project", Location: "europe-west1"})
//	change, err := a.Queues().Ensure(ctx, admin.QueueConfig{ID: "emails", MaxDispatchesPerSecond: 50})
//	fmt.Println(change) // queue emails: update max_dispatches_per_second 100 → 50
//
// Everything goes over gRPC, through v2 of the API; only what v2 does not have,
// statistics and the lifetimes of tasks and of their names, goes through
// v2beta3. Wherever a mistake can be known before a call, it is: see [ErrInvalid].
//
// The service is eventually consistent: a new queue may not be found for a
// minute, a purge may take one. Methods that wait say so, and wait until their
// context ends.
package admin
