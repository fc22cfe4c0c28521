// Package conformance measures how close a server comes to Cloud Tasks. It has
// one row for each rule that is documented, observed or inferred, with its
// section of docs/cloud-tasks.md and the mark of its evidence.
//
//	go run ./emulator/conformance/cmd/score --grpc 127.0.0.1:8123 --http 127.0.0.1:8124
//
// runs the rows against any emulator, or with --project against the service, and
// prints the results. docs/fidelity.md has the score of this emulator, and says
// how to score another.
//
// go test runs the same rows against the emulator in its process, over gRPC and
// REST, each in a testing/synctest bubble of its own. It also tests rules that take
// hours.
package conformance
