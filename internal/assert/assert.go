// Package assert holds the few checks that the tests of this module repeat.
//
// It exists because go mod tidy follows the imports of tests: a test framework
// here would be in the go.sum of every user. A check that fails stops the test
// at once, so call it in the test's own goroutine.
package assert

import (
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

// Equal fails the test unless got and want are deeply equal.
func Equal[T any](t testing.TB, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got:  %#v\nwant: %#v", got, want)
	}
}

// NoError fails the test when err is not nil.
func NoError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected error: %v", err)
	}
}

// ErrorIs fails the test unless errors.Is(err, target).
func ErrorIs(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got error:  %v\nwant error: %v", err, target)
	}
}

// ErrorContains fails the test unless err contains all of the texts.
func ErrorContains(t testing.TB, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that contains %q", texts)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Fatalf("error does not contain %q: %v", text, err)
		}
	}
}

// Status fails the test unless the HTTP status got is want, and names both.
func Status(t testing.TB, got, want int) {
	t.Helper()
	if got != want {
		t.Fatalf("got status %d %s, want %d %s", got, http.StatusText(got), want, http.StatusText(want))
	}
}

// Eventually fails the test unless cond becomes true within the deadline. Use it
// for the state of another process; where there is a channel, wait for that.
// what names the condition in the failure.
func Eventually(t testing.TB, deadline time.Duration, cond func() bool, what string) {
	t.Helper()
	if !poll(deadline, cond) {
		t.Fatalf("after %v still waiting for: %s", deadline, what)
	}
}

// poll calls cond until it is true or the deadline has passed, every 1 ms at
// first and every 50 ms later, so that a long wait does not starve the process
// it waits for.
func poll(deadline time.Duration, cond func() bool) bool {
	end := time.Now().Add(deadline)
	for pause := time.Millisecond; !cond(); pause = min(2*pause, 50*time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
		time.Sleep(pause)
	}
	return true
}
