// Package cli tests the command handoff as a person or a script uses it: against
// the emulator over real gRPC, a real redis-server and, where needed, a terminal.
// It lives in this module so that testscript and pty are no dependencies of
// handoff's users.
package cli
