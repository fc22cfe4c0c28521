package handoff

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
)

// guard runs code that the user of the package wrote: a handler, a method of a
// payload, a store, a hook. entry names it. A panic in it becomes an error; it
// is the only place that recovers one. What becomes of the task is the matter
// of the caller (docs/guarantees.md has the table).
//
// runtime.Goexit cannot be stopped. guard lets it pass, so callers that must
// do something about it defer that.
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

// Error has no intent of the value: a panic with Permanent is a panic.
func (e *panicError) Error() string { return fmt.Sprintf("handoff: %s panicked: %v", e.entry, e.value) }

// aborts reports whether the panic asks net/http to abort the connection.
func (e *panicError) aborts() bool {
	err, ok := e.value.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}
