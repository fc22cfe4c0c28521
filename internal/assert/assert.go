// Package assert holds the few checks that the tests of this module repeat.
//
// It exists because the imports of our tests are part of what our users pay: a
// test framework here would land in the go.sum of everyone who depends on us.
// Every check stops the test at once, so it belongs in the test's own goroutine.
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

// ErrorContains fails the test unless err says every one of the texts.
func ErrorContains(t testing.TB, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that says %q", texts)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Fatalf("error does not say %q: %v", text, err)
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

// Eventually fails the test unless cond comes true within the deadline. It is for
// states that only another process can report; where there is a channel to wait
// on, wait on that. The last argument says what was waited for.
func Eventually(t testing.TB, deadline time.Duration, cond func() bool, what string) {
	t.Helper()
	if !poll(deadline, cond) {
		t.Fatalf("after %v still waiting for: %s", deadline, what)
	}
}

// poll asks cond until it is true or the deadline has passed. The pause grows from
// 1 ms to 50 ms: most waits are over at once, and long ones must not starve the
// process that is waited for.
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
