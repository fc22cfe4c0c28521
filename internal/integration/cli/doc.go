// Package cli tests the program handoff from outside, as a person or a script
// uses it: against the emulator over real gRPC, a real redis-server, and a
// terminal where it wants one. testscript and pty are nothing that users of
// handoff need.
package cli
