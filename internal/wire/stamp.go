package wire

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The headers of the stamp, which handoff sets at enqueue.
const (
	prefix            = "Handoff-"
	headerVersion     = "Handoff-Version"
	HeaderID          = "Handoff-Id" // exported for benchmarks, which change it for each task
	headerKind        = "Handoff-Kind"
	headerKey         = "Handoff-Key"
	headerTarget      = "Handoff-Target"
	headerHeaders     = "Handoff-Headers"
	headerEnqueued    = "Handoff-Enqueued"
	headerScheduled   = "Handoff-Scheduled"
	headerExpires     = "Handoff-Expires"
	headerDeadline    = "Handoff-Deadline"
	headerWindow      = "Handoff-Window"
	headerMaxAttempts = "Handoff-Max-Attempts"
	headerBackoff     = "Handoff-Backoff"
	headerRedrives    = "Handoff-Redrives"
	headerGeneration  = "Handoff-Generation"
	headerSnoozes     = "Handoff-Snoozes"
	headerAttempts    = "Handoff-Attempts"
)

// version is the version of the stamp. ReadStamp refuses any other version, whose
// fields may mean something else.
const version = "1"

// Stamp is what the producer tells the receiver about a task. Copies of the task
// repeat it. The zero Stamp is that of a foreign task. Times and durations have
// millisecond precision, except Backoff.
type Stamp struct {
	ID      string // the handoff ID: one piece of work, however many tasks carry it
	Kind    string // of a typed task; empty for a request
	Key     string // hash of the producer's key; empty for work without a key
	Target  string // base URL that a typed task was enqueued for; empty for a request
	Headers []string

	Enqueued    time.Time
	Scheduled   time.Time     // when it was first due; zero: when it was enqueued
	Expires     time.Time     // zero: the task does not expire
	Deadline    time.Duration // dispatch deadline; 0: not stated
	Window      time.Duration // how long the fence must remember the work, at least; 0: not stated
	MaxAttempts int           // -1: unlimited; 0: not stated
	Backoff     Backoff

	Redrives   int // number of redrives; ranks above Generation
	Generation int // number of copies since the last redrive, each made to run later
	Snoozes    int // number of those copies that were snoozes
	Attempts   Attempts
}

// Attempts are those whose count a copy continues. If the worker that created the
// copy died before it marked it, the work's record does not know of them. The zero
// Attempts are not stated: the copy's count starts at one.
type Attempts struct {
	Earlier int   // before those that the record counted
	Counted int   // by the record
	First   int64 // when the first of these was claimed, in Unix µs: a record with another First did not count them
}

// Before returns how many attempts came before those of a record whose First is
// first, in Unix µs.
func (a Attempts) Before(first int64) int {
	if a.First == first {
		return a.Earlier
	}
	return a.Earlier + a.Counted
}

// Backoff is the pace of a typed task's retries. The zero Backoff is not stated.
type Backoff struct {
	Min, Max  time.Duration
	Doublings int
}

// Lifetime returns how long after its due time the task expires. It is 0 if the
// task does not expire, or does not say when it was due.
func (s Stamp) Lifetime() time.Duration {
	due := cmp.Or(s.Scheduled, s.Enqueued)
	if s.Expires.IsZero() || due.IsZero() {
		return 0
	}
	return s.Expires.Sub(due)
}

// Latest is the latest time that a stamp can hold.
func Latest() time.Time { return time.UnixMilli(maxMillis) }

// StampedID returns the handoff ID in the headers of a stored task, or "".
func StampedID(header map[string]string) string { return header[HeaderID] }

// StampedLimit returns the limit of attempts in the headers of a stored task: -1 for
// none, 0 if it is not stated.
func StampedLimit(header map[string]string) int {
	n, _ := strconv.Atoi(header[headerMaxAttempts])
	return n
}

// Write calls set with each header of s. The zero Stamp has none.
func (s Stamp) Write(set func(name, value string)) {
	text := func(name, value string) {
		if value != "" {
			set(name, value)
		}
	}
	number := func(name string, n int64) {
		if n != 0 {
			set(name, strconv.FormatInt(n, 10))
		}
	}
	moment := func(name string, t time.Time) {
		if !t.IsZero() {
			set(name, strconv.FormatInt(t.UnixMilli(), 10))
		}
	}
	if s.ID == "" && s.Enqueued.IsZero() {
		return
	}
	set(headerVersion, version)
	text(HeaderID, s.ID)
	text(headerKind, s.Kind)
	text(headerKey, s.Key)
	text(headerTarget, s.Target)
	text(headerHeaders, strings.Join(s.Headers, ", "))
	moment(headerEnqueued, s.Enqueued)
	moment(headerScheduled, s.Scheduled)
	moment(headerExpires, s.Expires)
	number(headerDeadline, s.Deadline.Milliseconds())
	number(headerWindow, s.Window.Milliseconds())
	number(headerMaxAttempts, int64(s.MaxAttempts))
	if s.Backoff != (Backoff{}) {
		set(headerBackoff, s.Backoff.String())
	}
	number(headerRedrives, int64(s.Redrives))
	number(headerGeneration, int64(s.Generation))
	number(headerSnoozes, int64(s.Snoozes))
	if a := s.Attempts; a != (Attempts{}) {
		set(headerAttempts, fmt.Sprint(a.Earlier, a.Counted, a.First))
	}
}

const (
	maxOwnIdentifier = 128
	maxKind          = 64
	maxTarget        = 2083    // the service's limit for URLs (docs/cloud-tasks.md#4)
	maxNames         = 8 << 10 // of Handoff-Headers
)

// ReadStamp parses the stamp of a task. An absent header leaves its field zero, but
// the version and the ID are required. Without any header of a stamp, ReadStamp
// returns the zero Stamp.
func ReadStamp(h http.Header) (Stamp, error) { return (&reader{header: h}).stamp() }

// ReadStored is [ReadStamp] for the headers of a stored task.
func ReadStored(header map[string]string) (Stamp, error) { return (&reader{stored: header}).stamp() }

func (r *reader) stamp() (Stamp, error) {
	s := Stamp{
		ID:         r.optionalIdentifier(HeaderID),
		Kind:       r.text(headerKind, maxKind),
		Key:        r.optionalIdentifier(headerKey),
		Target:     r.text(headerTarget, maxTarget),
		Headers:    r.names(headerHeaders),
		Enqueued:   r.millis(headerEnqueued),
		Scheduled:  r.millis(headerScheduled),
		Expires:    r.millis(headerExpires),
		Deadline:   r.duration(headerDeadline),
		Window:     r.duration(headerWindow),
		Backoff:    r.backoff(headerBackoff),
		Redrives:   r.count(headerRedrives),
		Generation: r.count(headerGeneration),
		Snoozes:    r.count(headerSnoozes),
		Attempts:   r.attempts(headerAttempts),
	}
	if v, _ := r.one(headerMaxAttempts); v == "-1" {
		s.MaxAttempts = -1
	} else {
		s.MaxAttempts = r.countOf(headerMaxAttempts, v)
	}
	switch v, stated := r.one(headerVersion); {
	case r.found == 0:
	case !stated:
		r.fail(headerVersion, "is missing, so the task was stamped by an unknown version of handoff")
	case v != version:
		r.fail(headerVersion, "is not "+version+", so the task was stamped by another version of handoff")
	case s.ID == "":
		r.fail(HeaderID, "is missing")
	}
	return s, r.err
}

// names reads a list of header names, separated by commas.
func (r *reader) names(name string) []string {
	v := r.text(name, maxNames)
	if v == "" {
		return nil
	}
	names := strings.Split(v, ", ")
	for _, n := range names {
		if n == "" || n != http.CanonicalHeaderKey(n) || strings.ContainsAny(n, " \"(),/:;<=>?@[\\]{}") {
			r.fail(name, "is not a list of header names")
			return nil
		}
	}
	return names
}

// backoff reads the min and the max backoff in seconds, and the number of
// doublings.
func (r *reader) backoff(name string) (b Backoff) {
	v, ok := r.one(name)
	if !ok {
		return b
	}
	fields := strings.Split(v, " ")
	if len(fields) != 3 {
		r.fail(name, "is not two numbers of seconds and a count")
		return b
	}
	for i, d := range []*time.Duration{&b.Min, &b.Max} {
		t, err := ParseETA(fields[i])
		if err != nil || t.Unix() > maxMillis/1000 {
			r.fail(name, "is not two numbers of seconds and a count")
			return b
		}
		*d = time.Duration(t.UnixNano())
	}
	b.Doublings = r.countOf(name, fields[2])
	return b
}

// attempts reads two counts and a time in Unix µs.
func (r *reader) attempts(name string) (a Attempts) {
	v, ok := r.one(name)
	if !ok {
		return a
	}
	fields := strings.Split(v, " ")
	if len(fields) == 3 {
		first, err := strconv.ParseUint(fields[2], 10, 63)
		if err == nil {
			return Attempts{r.countOf(name, fields[0]), r.countOf(name, fields[1]), int64(first)}
		}
	}
	r.fail(name, "is not two counts and a time")
	return a
}

// String returns b in the form of its header: "1 3600 16" is from one second to one
// hour, with 16 doublings.
func (b Backoff) String() string {
	text := appendSeconds(make([]byte, 0, 48), b.Min)
	text = appendSeconds(append(text, ' '), b.Max)
	return string(strconv.AppendInt(append(text, ' '), int64(b.Doublings), 10))
}

// appendSeconds appends a duration in decimal seconds, to the nanosecond.
func appendSeconds(text []byte, d time.Duration) []byte {
	text = strconv.AppendInt(text, int64(d/time.Second), 10)
	if frac := d % time.Second; frac != 0 {
		text = bytes.TrimRight(fmt.Appendf(text, ".%09d", int64(frac)), "0")
	}
	return text
}

// IsStamp reports whether name, in canonical form, is that of a stamp header.
func IsStamp(name string) bool { return strings.HasPrefix(name, prefix) }

// HeaderNames returns the names of header in the form of Stamp.Headers.
func HeaderNames(header map[string]string) []string {
	names := make([]string, 0, len(header))
	for name := range header {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
