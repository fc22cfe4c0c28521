package assert

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// leakDeadline is how long goroutines may take to end: sockets and gRPC
// transports finish in the background after Close.
const leakDeadline = 5 * time.Second

// NoLeaks fails the test if, at its end, goroutines are running that were not
// running when NoLeaks was called. Call it first, so that it checks after every
// other cleanup. Use [NoLeaksMain] for parallel tests, whose goroutines cannot
// be told apart.
func NoLeaks(t testing.TB) {
	t.Helper()
	before := goroutines()
	t.Cleanup(func() {
		t.Helper()
		if leaked := leakedSince(before, leakDeadline); len(leaked) > 0 {
			t.Errorf("%d goroutines leaked:\n\n%s", len(leaked), strings.Join(leaked, "\n\n"))
		}
	})
}

// NoLeaksMain runs the tests of a package, and fails if goroutines outlive them:
//
//	func TestMain(m *testing.M) { assert.NoLeaksMain(m) }
func NoLeaksMain(m *testing.M) {
	before := goroutines()
	code := m.Run()
	if code == 0 {
		if leaked := leakedSince(before, leakDeadline); len(leaked) > 0 {
			fmt.Fprintf(os.Stderr, "%d goroutines outlive the tests:\n\n%s\n", len(leaked), strings.Join(leaked, "\n\n"))
			code = 1
		}
	}
	os.Exit(code)
}

// leakedSince returns the stacks of goroutines that are not in before and do not
// end within the deadline.
func leakedSince(before map[string]string, deadline time.Duration) []string {
	var leaked []string
	poll(deadline, func() bool {
		leaked = nil
		for id, stack := range goroutines() {
			if _, old := before[id]; !old && !outlivesAll(stack) {
				leaked = append(leaked, stack)
			}
		}
		return len(leaked) == 0
	})
	return leaked
}

var goroutineID = regexp.MustCompile(`^goroutine (\d+)`)

// goroutines returns the stack of every goroutine but the caller's, by ID. The
// runtime never reuses an ID.
func goroutines() map[string]string {
	buf := make([]byte, 64<<10)
	n := runtime.Stack(buf, true)
	for n == len(buf) {
		buf = make([]byte, 2*len(buf))
		n = runtime.Stack(buf, true)
	}
	stacks := make(map[string]string)
	for i, stack := range strings.Split(string(buf[:n]), "\n\n") {
		if id := goroutineID.FindStringSubmatch(stack); id != nil && i > 0 {
			stacks[id[1]] = stack
		}
	}
	return stacks
}

// outlivesAll reports whether the stack belongs to the goroutine that os/signal
// starts at the first Notify and never stops.
func outlivesAll(stack string) bool {
	return strings.Contains(stack, "os/signal.loop(")
}
