package handoff

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
)

// guard calls code of the package's user: a handler, a method of a payload, a
// store or a hook. It returns a panic of call as an error that names entry. No
// other function of the package recovers panics. docs/guarantees.md lists what
// each panic does to the task.
//
// runtime.Goexit cannot be recovered. A caller that must act on it uses defer.
func guard(entry string, call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{entry: entry, value: p, stack: debug.Stack()}
		}
	}()
	return call()
}

// panicError is a panic of the user's code.
type panicError struct {
	entry string
	value any
	stack []byte
}

// panicError has no Unwrap: a panic with Permanent(err) is a failed attempt.
func (e *panicError) Error() string { return fmt.Sprintf("handoff: %s panicked: %v", e.entry, e.value) }

// aborts reports whether the panic asks net/http to abort the connection.
func (e *panicError) aborts() bool {
	err, ok := e.value.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}
