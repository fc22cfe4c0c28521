// Package conformance holds the documented and recorded rules of Cloud Tasks
// as tables: one row a rule, with its section of docs/cloud-tasks.md.
//
// go test runs every row against the emulator, once over gRPC and once over
// REST, through Google's own client. Each row runs in a testing/synctest
// bubble of its own, so that hours of backoff take no time and durations are
// exact.
//
// # Against the real service
//
// With HANDOFF_CONFORMANCE_PROJECT set (and HANDOFF_CONFORMANCE_LOCATION,
// default us-central1) the rows run against that project too, with the
// application default credentials. They create queues with names that
// cannot be used again for days, and rows that need a worker or long waits
// are skipped. This mode has never been exercised: no project was at hand
// when it was written.
package conformance
