package assert_test

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff/internal/assert"
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

// recorder is a testing.TB that records a failure instead of failing.
type recorder struct {
	testing.TB
	failure  string
	cleanups []func()
}

func (r *recorder) Helper()           {}
func (r *recorder) Cleanup(fn func()) { r.cleanups = append(r.cleanups, fn) }
func (r *recorder) Errorf(format string, args ...any) {
	r.failure = fmt.Sprintf(format, args...)
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failure = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// run calls check in its own goroutine, which Fatalf may end, and then the
// cleanups that check registered.
func run(check func(testing.TB)) (failure string) {
	r := new(recorder)
	done := make(chan struct{})
	go func() {
		defer close(done)
		check(r)
	}()
	<-done
	for _, fn := range r.cleanups {
		fn()
	}
	return r.failure
}

func TestChecks(t *testing.T) {
	t.Parallel()
	wrapped := fmt.Errorf("read the header: %w", io.EOF)
	for name, tc := range map[string]struct {
		check func(testing.TB)
		says  []string // nothing: the check passes
	}{
		"equal":            {check: func(t testing.TB) { assert.Equal(t, []int{1}, []int{1}) }},
		"not equal":        {func(t testing.TB) { assert.Equal(t, "a", "b") }, []string{`got:  "a"`, `want: "b"`}},
		"equal interface":  {check: func(t testing.TB) { assert.Equal[error](t, nil, nil) }},
		"no error":         {check: func(t testing.TB) { assert.NoError(t, nil) }},
		"an error":         {func(t testing.TB) { assert.NoError(t, io.EOF) }, []string{"unexpected", "EOF"}},
		"error is":         {check: func(t testing.TB) { assert.ErrorIs(t, wrapped, io.EOF) }},
		"error is not":     {func(t testing.TB) { assert.ErrorIs(t, wrapped, io.ErrShortWrite) }, []string{"header: EOF", "short write"}},
		"error is nil":     {func(t testing.TB) { assert.ErrorIs(t, nil, io.EOF) }, []string{"EOF"}},
		"says both":        {check: func(t testing.TB) { assert.ErrorContains(t, wrapped, "header", "EOF") }},
		"says only one":    {func(t testing.TB) { assert.ErrorContains(t, wrapped, "header", "body") }, []string{`"body"`, "header: EOF"}},
		"nil says nothing": {func(t testing.TB) { assert.ErrorContains(t, nil, "header") }, []string{"no error", "header"}},
		"status":           {check: func(t testing.TB) { assert.Status(t, 208, 208) }},
		"other status":     {func(t testing.TB) { assert.Status(t, 409, 208) }, []string{"409 Conflict", "208 Already Reported"}},
		"eventually":       {check: func(t testing.TB) { assert.Eventually(t, 0, func() bool { return true }, "x") }},
		"never": {func(t testing.TB) {
			assert.Eventually(t, time.Millisecond, func() bool { return false }, "the sky to fall")
		}, []string{"1ms", "the sky to fall"}},
		"nothing leaks":      {check: func(t testing.TB) { assert.NoLeaks(t) }},
		"a late end is well": {check: func(t testing.TB) { assert.NoLeaks(t); go runtime.Gosched() }},
	} {
		t.Run(name, func(t *testing.T) {
			failure := run(tc.check)
			if len(tc.says) == 0 && failure != "" {
				t.Fatalf("failed with: %s", failure)
			}
			if len(tc.says) > 0 && failure == "" {
				t.Fatal("did not fail")
			}
			for _, text := range tc.says {
				if !strings.Contains(failure, text) {
					t.Errorf("failure does not say %q: %s", text, failure)
				}
			}
		})
	}
}

func TestEventuallyWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		assert.Eventually(t, time.Minute, func() bool { return time.Since(start) >= 10*time.Second }, "ten seconds")
		if waited := time.Since(start); waited > 11*time.Second {
			t.Fatalf("returned after %v", waited)
		}
	})
}

func TestNoLeaksNamesTheGoroutine(t *testing.T) {
	t.Parallel()
	// In a bubble the deadline passes at once. Goroutines outside of it are seen
	// too, so look for the name of ours.
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		defer close(stop)
		failure := run(func(t testing.TB) {
			assert.NoLeaks(t)
			go leak(stop)
		})
		assert.ErrorContains(t, errors.New(failure), "leaked", "assert_test.leak")
	})
}

func leak(stop chan struct{}) { <-stop }
