// Package benchtest provides the dispatch that all benchmarks of the receiving path
// send, so that their figures are comparable.
package benchtest

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	"github.com/brillconsulting/handoff/internal/wire"
)

// Invoice is the payload of a Dispatch.
type Invoice struct {
	ID       string   `json:"id"`
	Customer string   `json:"customer"`
	Currency string   `json:"currency"`
	Total    float64  `json:"total"`
	Paid     bool     `json:"paid"`
	Lines    []string `json:"lines"`
	Note     string   `json:"note"`
}

// Kind implements handoff.Payload.
func (Invoice) Kind() string { return "invoice" }

// Body is an Invoice of 300 bytes.
const Body = `{"id":"inv-2026-00000000042","customer":"customer-0001","currency":"EUR","total":1234.56,"paid":true,` +
	`"lines":["twelve crates of apples","one crate of pears","delivery on Tuesday before 9","deposit for thirteen crates"],` +
	`"note":"Please ring twice, the bell is old and sometimes does not hear the 1st."}`

// Dispatch is a request that can be sent many times. Each time only the task's name
// and ID change, because a task is executed once.
type Dispatch struct {
	*http.Request // to POST /tasks/invoice

	body *strings.Reader
	w    nowhere
	task int64
}

const firstTask = 1_000_000_000_000_000_000

// NewDispatch returns a dispatch that carries the token.
func NewDispatch(token string) *Dispatch {
	d := &Dispatch{body: strings.NewReader(Body), w: nowhere{header: http.Header{}}}
	d.Request = httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/tasks/invoice", nil)
	d.ContentLength = int64(len(Body))
	d.Header.Set("Content-Type", "application/json")
	d.Header.Set("User-Agent", wire.UserAgentHTTP)
	d.Header.Set("Authorization", "Bearer "+token)
	wire.HTTP.Write(d.Header, wire.Dispatch{Queue: "invoices", Task: "0", ETA: time.Now()})
	wire.Stamp{
		ID: "0", Enqueued: time.Now(), Expires: time.Now().Add(24 * time.Hour), Deadline: 10 * time.Minute, MaxAttempts: 5, Window: 25 * time.Hour,
	}.Write(d.Header.Set)
	return d
}

// Serve lets h serve a dispatch of a new task, and returns the status. Its
// ResponseWriter allocates nothing and discards the body.
func (d *Dispatch) Serve(h http.Handler) (status int) {
	d.task++
	id := string(strconv.AppendInt([]byte("ID-"), firstTask+d.task, 10)) // as long as an ID of handoff
	d.Header[wire.HTTP.TaskName][0] = id
	d.Header[wire.HeaderID][0] = id
	d.body.Reset(Body)
	d.Body = io.NopCloser(d.body)
	h.ServeHTTP(&d.w, d.Request)
	return d.w.status
}

type nowhere struct {
	header http.Header
	status int
}

func (w *nowhere) Header() http.Header         { return w.header }
func (w *nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (w *nowhere) WriteHeader(status int)      { w.status = status }
