package handofftest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
)

// Recorder records the tasks that its Client enqueues, and delivers none. The
// Client is the real one, connected to an emulator whose queues are paused. It
// refuses what the service would refuse, and reports a task whose name was used
// before as [handoff.Receipt].Duplicate. A queue is created with its first task.
// A Recorder is safe for concurrent use.
type Recorder struct {
	Client *handoff.Client

	t      testing.TB
	queues *queues
}

// NewRecorder returns a Recorder, which is closed when the test ends. Each change
// may modify the configuration of its Client, such as the Policy. NewRecorder
// fails the test if the configuration is invalid. A Recorder works in a
// testing/synctest bubble.
func NewRecorder(t testing.TB, change ...func(*handoff.ClientConfig)) *Recorder {
	t.Helper()
	r := &Recorder{t: t, queues: newQueues(t, emulator.Config{TaskWindow: -1})}
	r.Client = r.queues.client(t, func(config *handoff.ClientConfig) {
		for _, fn := range change {
			fn(config)
		}
	})
	return r
}

// Reset deletes all recorded tasks and frees their names.
func (r *Recorder) Reset() {
	r.t.Helper()
	if err := r.queues.purge(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// Tasks returns copies of the recorded tasks as the service stores them, oldest
// first. Use it for what [RequireEnqueued] does not return, such as the tasks of
// EnqueueRequest.
func (r *Recorder) Tasks() []*cloudtaskspb.Task { return r.queues.tasks() }

// Enqueued is one recorded task that carries a T.
type Enqueued[T handoff.Payload] struct {
	Payload     T
	Queue       string // queue ID
	Name        string // full resource name
	ScheduledAt time.Time
	Header      http.Header
}

// RequireEnqueued returns the oldest recorded task that carries a T for which all
// match functions return true. If there is none, it fails the test and shows what
// was recorded.
func RequireEnqueued[T handoff.Payload](t testing.TB, r *Recorder, match ...func(T) bool) Enqueued[T] {
	t.Helper()
	found := enqueued(t, r, match)
	if len(found) == 0 {
		t.Fatalf("handofftest: got none of %s%s, want one; %s", kindOf[T](), fitting(match), r.shown())
	}
	return found[0]
}

// RequireExactly returns all recorded tasks that carry a T for which all match
// functions return true, oldest first. It fails the test unless there are n, and
// shows what was recorded.
func RequireExactly[T handoff.Payload](t testing.TB, r *Recorder, n int, match ...func(T) bool) []Enqueued[T] {
	t.Helper()
	found := enqueued(t, r, match)
	if len(found) != n {
		t.Fatalf("handofftest: got %d of %s%s, want %d; %s", len(found), kindOf[T](), fitting(match), n, r.shown())
	}
	return found
}

// RequireNone fails the test if a recorded task carries a T for which all match
// functions return true.
func RequireNone[T handoff.Payload](t testing.TB, r *Recorder, match ...func(T) bool) {
	t.Helper()
	if n := len(enqueued(t, r, match)); n > 0 {
		t.Fatalf("handofftest: got %d of %s%s, want none; %s", n, kindOf[T](), fitting(match), r.shown())
	}
}

func fitting[T any](match []func(T) bool) string {
	if len(match) == 0 {
		return ""
	}
	return " that matches"
}

// kindOf returns the kind of T. If T is a pointer type, it calls Kind on a new
// value, because Kind may read fields.
func kindOf[T handoff.Payload]() string {
	var payload T
	if t := reflect.TypeFor[T](); t.Kind() == reflect.Pointer {
		payload = reflect.New(t.Elem()).Interface().(T)
	}
	return payload.Kind()
}

func enqueued[T handoff.Payload](t testing.TB, r *Recorder, match []func(T) bool) []Enqueued[T] {
	t.Helper()
	var found []Enqueued[T]
	for _, task := range r.Tasks() {
		address, header, body := parts(task)
		if kindAt(address) != kindOf[T]() {
			continue
		}
		e := Enqueued[T]{Queue: queueOf(task.Name), Name: task.Name, ScheduledAt: task.ScheduleTime.AsTime(), Header: header}
		if err := json.Unmarshal(decompressed(header, body), &e.Payload); err != nil {
			t.Fatalf("handofftest: the recorded payload is not a %T: %v", e.Payload, err)
		}
		if !slices.ContainsFunc(match, func(fits func(T) bool) bool { return !fits(e.Payload) }) {
			found = append(found, e)
		}
	}
	return found
}

// How much of the recorded tasks a failure shows.
const (
	shownTasks = 20
	shownBytes = 200 // of each body
)

// shown lists the recorded tasks, one per line.
func (r *Recorder) shown() string {
	tasks := r.Tasks()
	if len(tasks) == 0 {
		return "nothing was enqueued"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "what was enqueued (%d):", len(tasks))
	for i, task := range tasks {
		if i == shownTasks {
			fmt.Fprintf(&b, "\n  and %d more", len(tasks)-i)
			break
		}
		address, header, body := parts(task)
		body = decompressed(header, body)
		more := ""
		if len(body) > shownBytes {
			body, more = body[:shownBytes], "…"
		}
		fmt.Fprintf(&b, "\n  %s on queue %s, due %s: %s%s",
			kindAt(address), queueOf(task.Name), task.ScheduleTime.AsTime().Format(time.RFC3339), body, more)
	}
	return b.String()
}

// decompressed returns the body as the handler's decoder sees it.
func decompressed(header http.Header, body []byte) []byte {
	if header.Get("Content-Encoding") != "gzip" {
		return body
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return body
	}
	whole, _ := io.ReadAll(z) // compressed in this process, so its size is bounded
	return whole
}

// logger writes to the test's output.
func logger(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }
