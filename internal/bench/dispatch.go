package main

import (
	"bytes"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/brillconsulting/handoff/internal/wire"
)

// dispatches writes the requests that Cloud Tasks would send for tasks that
// handoff enqueued. Each is another task; the tokens are used in turn.
type dispatches struct {
	lines  []string // the first of a request; used in turn
	head   []byte   // the headers that are the same
	tail   []byte
	tokens []string
	next   *atomic.Int64 // of the worker: no task is sent to it twice
}

func newDispatches(kinds int, body []byte, tokens []string, next *atomic.Int64) *dispatches {
	d := &dispatches{tokens: tokens, next: next, tail: append([]byte("\r\n\r\n"), body...)}
	for i := range kinds {
		d.lines = append(d.lines, "POST /tasks/"+kindOf(i)+" HTTP/1.1\r\n")
	}
	header := http.Header{
		"Host":            {"worker.example.com"},
		"User-Agent":      {wire.UserAgentHTTP},
		"Content-Type":    {"application/json"},
		"Content-Length":  {strconv.Itoa(len(body))},
		"Accept-Encoding": {"gzip, deflate, br"},
	}
	now := time.Now()
	wire.HTTP.Write(header, wire.Dispatch{Queue: queue, Task: "0", ETA: now})
	wire.Stamp{Enqueued: now, Expires: now.Add(24 * time.Hour), MaxAttempts: 5}.Write(header.Set)
	header.Del(wire.HTTP.TaskName)
	var head bytes.Buffer
	_ = header.Write(&head) // to memory
	d.head = head.Bytes()
	return d
}

// appendNext appends the next request.
func (d *dispatches) appendNext(b []byte) []byte {
	n := d.next.Add(1)
	b = append(b, d.lines[n%int64(len(d.lines))]...)
	b = append(b, d.head...)
	b = appendID(append(b, "X-Cloudtasks-Taskname: "...), n, 20)
	b = appendID(append(b, "\r\nHandoff-Id: "...), n, 26)
	b = append(append(b, "\r\nAuthorization: Bearer "...), d.tokens[n%int64(len(d.tokens))]...)
	return append(b, d.tail...)
}

// appendID appends n in so many digits, which is as long as the service's names
// and handoff's IDs are.
func appendID(b []byte, n int64, digits int) []byte {
	text := strconv.FormatInt(n, 10)
	for range digits - len(text) {
		b = append(b, '0')
	}
	return append(b, text...)
}
