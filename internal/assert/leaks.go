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

// leakDeadline is how long a goroutine may take to end after what started it was
// closed: sockets and gRPC transports finish in the background.
const leakDeadline = 5 * time.Second

// NoLeaks fails the test when, at its end, goroutines are running that were not
// running when NoLeaks was called. Call it first, so that it looks after every
// other cleanup; not in a test that calls t.Parallel, whose neighbours' goroutines
// cannot be told from its own: there [NoLeaksMain] looks after all of them.
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

// NoLeaksMain runs the tests of a package and fails it when goroutines outlive them:
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

// goroutines returns the stack of every goroutine but the caller's, by ID. IDs are
// never used again, so an ID that was there before is the same goroutine.
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

// outlivesAll reports whether the goroutine is the one that os/signal starts on the
// first Notify of the process and never stops.
func outlivesAll(stack string) bool {
	return strings.Contains(stack, "os/signal.loop(")
}
