// Package wire names, writes and reads the headers of a Cloud Tasks dispatch and
// those of handoff's stamp. The client, the router and the emulator all use it, so
// they always agree.
package wire

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// User agents of the service (docs/cloud-tasks.md#9.2, #11.3).
const (
	UserAgentHTTP      = "Google-Cloud-Tasks"
	UserAgentAppEngine = "AppEngine-Google; (+http://code.google.com/appengine)"
)

// Family is a set of names of dispatch headers. HTTP targets get one family, App
// Engine targets the other (docs/cloud-tasks.md#9.4, #11.3).
type Family struct {
	QueueName        string
	TaskName         string
	RetryCount       string
	ExecutionCount   string
	ETA              string
	PreviousResponse string
	RetryReason      string
}

// The two header families. The names are in canonical form, so that they can be used
// as keys of an [http.Header] without conversion. Case does not matter on the wire
// (docs/cloud-tasks.md#9.4).
var (
	HTTP      = family("X-CloudTasks-")
	AppEngine = family("X-AppEngine-")
)

// AppEngineFailFast is sent with App Engine dispatches only.
const AppEngineFailFast = "X-AppEngine-FailFast"

func family(prefix string) Family {
	key := func(name string) string { return http.CanonicalHeaderKey(prefix + name) }
	return Family{
		QueueName:        key("QueueName"),
		TaskName:         key("TaskName"),
		RetryCount:       key("TaskRetryCount"),
		ExecutionCount:   key("TaskExecutionCount"),
		ETA:              key("TaskETA"),
		PreviousResponse: key("TaskPreviousResponse"),
		RetryReason:      key("TaskRetryReason"),
	}
}

// Dispatch is what the headers tell about one dispatch.
type Dispatch struct {
	Queue          string // queue ID, never the full path
	Task           string // task ID, never the full path
	RetryCount     int    // dispatches before this one
	ExecutionCount int    // responses before this one, counted differently for each kind of target (docs/cloud-tasks.md#9.4, #11.3)
	ETA            time.Time

	// Retried reports whether this is a retry. Only then are the next two sent.
	Retried          bool
	PreviousResponse int // may be 0: App Engine sends that after a timeout
	RetryReason      string
}

// Write sets the headers of d on h as the service does.
func (f Family) Write(h http.Header, d Dispatch) {
	h.Set(f.QueueName, d.Queue)
	h.Set(f.TaskName, d.Task)
	h.Set(f.RetryCount, strconv.Itoa(d.RetryCount))
	h.Set(f.ExecutionCount, strconv.Itoa(d.ExecutionCount))
	h.Set(f.ETA, FormatETA(d.ETA))
	if d.Retried {
		h.Set(f.PreviousResponse, strconv.Itoa(d.PreviousResponse))
		h.Set(f.RetryReason, d.RetryReason)
	}
}

// Max lengths of the service's identifiers (docs/cloud-tasks.md#2).
const (
	maxQueueID = 100
	maxTaskID  = 500
)

// Read parses the headers of a dispatch. The names of queue and task are required.
// Absent counts and times are zero, because real dispatches have been seen without
// them (docs/cloud-tasks.md#9.4). A header that is present must be well formed, and
// may appear only once.
func (f Family) Read(h http.Header) (Dispatch, error) {
	r := reader{header: h}
	d := Dispatch{
		Queue:          r.identifier(f.QueueName, maxQueueID),
		Task:           r.identifier(f.TaskName, maxTaskID),
		RetryCount:     r.count(f.RetryCount),
		ExecutionCount: r.count(f.ExecutionCount),
		ETA:            r.eta(f.ETA),
	}
	if _, d.Retried = h[f.PreviousResponse]; d.Retried {
		d.PreviousResponse = r.count(f.PreviousResponse)
	}
	d.RetryReason = r.text(f.RetryReason, maxText)
	return d, r.err
}

// FormatETA returns t as the service writes it: decimal Unix seconds with a
// microsecond fraction (docs/cloud-tasks.md#9.4).
func FormatETA(t time.Time) string {
	s := strconv.FormatInt(t.UnixMicro(), 10)
	if len(s) < 7 {
		s = "0000000"[len(s):] + s
	}
	return s[:len(s)-6] + "." + s[len(s)-6:]
}

// ParseETA reads decimal Unix seconds of any precision. Digits beyond the
// nanosecond are dropped.
func ParseETA(s string) (time.Time, error) {
	whole, frac, _ := strings.Cut(s, ".")
	if whole == "" || len(whole) > 11 || len(frac) > 30 || !digits(whole) || !digits(frac) {
		return time.Time{}, errors.New("not decimal Unix seconds")
	}
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, errors.New("not decimal Unix seconds")
	}
	if len(frac) > 9 {
		frac = frac[:9]
	}
	var ns int64
	for i := range 9 {
		ns *= 10
		if i < len(frac) {
			ns += int64(frac[i] - '0')
		}
	}
	return time.Unix(sec, ns), nil
}

// reader reads headers one at a time, from header or stored, and keeps the first
// error.
type reader struct {
	header http.Header
	stored map[string]string // the headers of a stored task
	found  int               // number of headers present
	err    error
}

func (r *reader) fail(name, why string) {
	if r.err == nil {
		// The error does not quote the value, which any sender can choose.
		r.err = fmt.Errorf("header %s %s", name, why)
	}
}

// one returns the value of the header with this canonical name.
func (r *reader) one(name string) (string, bool) {
	if v, ok := r.stored[name]; ok {
		r.found++
		return v, true
	}
	values := r.header[name]
	switch len(values) {
	case 0:
		return "", false
	case 1:
		r.found++
		return values[0], true
	}
	r.fail(name, "appears more than once")
	return "", false
}

func (r *reader) identifier(name string, limit int) string {
	v, _ := r.one(name)
	return r.identifierOf(name, v, limit)
}

func (r *reader) identifierOf(name, v string, limit int) string {
	switch {
	case v == "":
		r.fail(name, "is missing")
	case len(v) > limit:
		r.fail(name, fmt.Sprintf("is longer than %d bytes", limit))
	case !identifier(v):
		r.fail(name, "holds more than letters, digits, '-' and '_'")
	}
	return v
}

func (r *reader) optionalIdentifier(name string) string {
	v, ok := r.one(name)
	if !ok {
		return ""
	}
	return r.identifierOf(name, v, maxOwnIdentifier)
}

// maxText is far above the length of the reasons that the service sends
// (docs/cloud-tasks.md#11.3).
const maxText = 256

func (r *reader) text(name string, limit int) string {
	v, _ := r.one(name)
	if len(v) > limit {
		r.fail(name, fmt.Sprintf("is longer than %d bytes", limit))
		return ""
	}
	for i := range len(v) {
		if v[i] < ' ' || v[i] > '~' {
			r.fail(name, "holds more than printable ASCII")
			return ""
		}
	}
	return v
}

func (r *reader) count(name string) int {
	v, _ := r.one(name)
	return r.countOf(name, v)
}

func (r *reader) countOf(name, v string) int {
	if v == "" {
		return 0
	}
	n, err := strconv.ParseUint(v, 10, 31)
	if err != nil {
		r.fail(name, "is not a count")
		return 0
	}
	return int(n)
}

// maxMillis keeps every accepted number within the range of time.Duration and within
// the years that time.Time can marshal to JSON.
const maxMillis = 9_000_000_000_000

func (r *reader) number(name string) (int64, bool) {
	v, ok := r.one(name)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(v, 10, 63)
	if err != nil || n > maxMillis {
		r.fail(name, "is not a number of milliseconds")
		return 0, false
	}
	return int64(n), true
}

func (r *reader) millis(name string) time.Time {
	if n, ok := r.number(name); ok {
		return time.UnixMilli(n)
	}
	return time.Time{}
}

func (r *reader) duration(name string) time.Duration {
	n, _ := r.number(name)
	return time.Duration(n) * time.Millisecond
}

func (r *reader) eta(name string) time.Time {
	v, ok := r.one(name)
	if !ok || v == "" {
		return time.Time{}
	}
	t, err := ParseETA(v)
	if err != nil {
		r.fail(name, "is "+err.Error())
	}
	return t
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func identifier(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
