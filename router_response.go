package handoff

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Code around the router must not write a response before the router does. If it
// does, Cloud Tasks acts on that status. docs/guarantees.md has the table of what
// becomes of the task.

// unsent refuses a delivery whose response is already written with a status
// that makes Cloud Tasks retry: middleware may have rejected the caller. After a
// 2xx there is no retry, so the delivery goes on.
func (d *delivery) unsent() bool {
	status := sentStatus(d.writer)
	if status == 0 || deletes(status) {
		return true
	}
	return d.refuse(Failed, ReasonResponseSent, fmt.Errorf("handoff: middleware around the router had already written status %d", status))
}

// notRetried reports whether a 2xx is already written, so that the task must end
// with this delivery.
func (d *delivery) notRetried() bool {
	return deletes(sentStatus(d.writer)) && d.router.config.DeadLetters != nil
}

func deletes(status int) bool { return status >= 200 && status <= 299 }

// respond writes the status, which is all that Cloud Tasks reads. It is deferred,
// so that it also runs after a panic: middleware that recovers above the router
// might otherwise send a 200.
func (d *delivery) respond(w http.ResponseWriter) {
	if !d.result.Outcome.valid() {
		d.end(Failed, errNoEnd)
	}
	if !d.bodyRead {
		d.limitRest()
	}
	status := sentStatus(w)
	if status == 0 {
		status = d.write(w)
	}
	switch {
	case !d.returns:
	case deletes(status) && !d.result.Outcome.Final():
		d.refuse(d.result.Outcome, cmp.Or(d.result.Reason, ReasonResponseSent), // a refusal keeps its reason
			errors.Join(fmt.Errorf("handoff: code around the router wrote status %d; the connection is aborted, so that the task is retried", status), d.result.Err))
		panic(http.ErrAbortHandler)
	case !discarded(d.req, w):
		d.result.Status = status
	}
}

// write writes the status of the outcome and returns it.
func (d *delivery) write(w http.ResponseWriter) int {
	status := d.router.statuses[d.result.Outcome]
	if d.result.Outcome == Throttled {
		w.Header().Set("Retry-After", retryAfter(d.result.Err))
	}
	w.WriteHeader(status)
	if gin, ok := w.(interface{ WriteHeaderNow() }); ok {
		gin.WriteHeaderNow() // gin keeps the status back, and middleware could replace it
	}
	return status
}

// retryAfter returns the Retry-After header of a throttled delivery: whole
// seconds, rounded up.
func retryAfter(err error) string {
	in, _ := errors.AsType[*intent](err)
	seconds := int64(in.wait / time.Second)
	if in.wait%time.Second > 0 {
		seconds++
	}
	return strconv.FormatInt(seconds, 10)
}

// discarded reports whether http.TimeoutHandler, or middleware like it, has
// already sent a response of its own.
func discarded(r *http.Request, w http.ResponseWriter) bool {
	if r.Context().Err() == nil {
		return false
	}
	_, err := w.Write(nil)
	return errors.Is(err, http.ErrHandlerTimeout)
}

// sentStatus returns the status that is already written to w, or to a writer that
// w wraps, and 0 if none is.
func sentStatus(w http.ResponseWriter) int {
	for w != nil {
		if gin, ok := w.(interface {
			Written() bool
			Status() int
		}); ok && gin.Written() {
			return gin.Status()
		}
		if status := statusField(reflect.ValueOf(w)); status != 0 {
			return status
		}
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return 0
		}
		w = wrapper.Unwrap()
	}
	return 0
}

// statusField returns the status that the fields of a writer hold. An
// http.ResponseWriter has no method that tells it: the writers of net/http keep it
// in unexported fields, and those of echo, v4 and v5, in exported ones. Where the
// fields have other names, statusField returns 0; TestResponseWrittenBefore shows
// for which writers it works.
func statusField(w reflect.Value) int {
	if w.Kind() == reflect.Pointer {
		w = w.Elem()
	}
	if w.Kind() != reflect.Struct {
		return 0
	}
	found, known := writers.Load(w.Type())
	if !known {
		found, _ = writers.LoadOrStore(w.Type(), fieldsOf(w.Type()))
	}
	switch f := found.(writerFields); {
	case f.state >= 0:
		return statusField(w.Field(f.state))
	case f.written >= 0 && f.status >= 0 && w.Field(f.written).Bool():
		return int(w.Field(f.status).Int())
	}
	return 0
}

// writers has the writerFields of each type, because looking for fields by name is
// slow.
var writers sync.Map

// writerFields are the indexes of a writer's fields, -1 for a missing field.
type writerFields struct {
	state           int // where HTTP/2 keeps the other two
	written, status int
}

func fieldsOf(t reflect.Type) writerFields {
	index := func(kind reflect.Kind, names ...string) int {
		for _, name := range names {
			if field, ok := t.FieldByName(name); ok && field.Type.Kind() == kind && len(field.Index) == 1 {
				return field.Index[0]
			}
		}
		return -1
	}
	if !strings.HasPrefix(t.PkgPath(), "net/http") {
		return writerFields{state: -1, written: index(reflect.Bool, "Committed"), status: index(reflect.Int, "Status")}
	}
	return writerFields{
		state:   index(reflect.Pointer, "rws", "ResponseWriter"), // the second since Go 1.27, and has the first
		written: index(reflect.Bool, "wroteHeader"),
		status:  index(reflect.Int, "status", "code", "Code"), // of a response, http.TimeoutHandler's, httptest.ResponseRecorder
	}
}
