package engine

import (
	"fmt"
	"math/rand/v2"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/proto"
)

// task is one task of a queue. There may be millions, nearly all of them
// waiting for their first dispatch, so the message is kept encoded and the rest
// is what a waiting task needs.
type task struct {
	id      string
	message []byte // encoded; never changed
	life    *life  // nil until the first dispatch
	seq     uint64 // order of creation in the queue
	created int64  // Unix nanoseconds, as all times here
	due     int64  // schedule time of the current or next dispatch
	pos     int32  // place in the agenda, -1 while not waiting
	gone    bool   // no longer in the queue; a dispatch may still run
}

// life is the history of one task.
type life struct {
	count      int32 // of dispatches
	responses  int32
	executions int32 // responses other than 5xx
	running    int32
	first      int64  // dispatch time of the first dispatch
	target     string // URL of its dispatches; empty until one has ended
	dispatches []record
}

// keptDispatches is the number of records that are kept with a task. The oldest
// are dropped first.
const keptDispatches = 100

// Record is one dispatch of a task, in flight or ended.
type Record struct {
	Schedule time.Time
	Dispatch time.Time
	Response time.Time // zero without a response
	Outcome
}

// record is a Record as it is kept. Finished tasks keep theirs, and three
// time.Time would be more than half of what one takes.
type record struct {
	schedule int64
	dispatch int64
	response int64 // 0 without a response
	Outcome
}

func (r record) copy() Record {
	c := Record{Schedule: time.Unix(0, r.schedule), Dispatch: time.Unix(0, r.dispatch), Outcome: r.Outcome}
	if r.response != 0 {
		c.Response = time.Unix(0, r.response)
	}
	return c
}

// Outcome is the result of a dispatch. It is zero while the dispatch is in flight.
type Outcome struct {
	Status  int    // HTTP status; 0 without a response
	Timeout bool   // no response by the dispatch deadline
	Failure string // why there was no response, otherwise

	RetryAfter time.Duration // as the response has it; 0 if it has none
}

// OK reports whether the task is done with (docs/cloud-tasks.md#7.4).
func (o Outcome) OK() bool { return o.Status >= 200 && o.Status <= 299 }

// Encoded is a task as it is kept.
type Encoded struct {
	id      string
	message []byte
	named   bool // by the caller
}

// Encode prepares a task for [Queue.Add]. Without an ID it is given a random one.
func Encode(id string, m *cloudtaskspb.Task) (Encoded, error) {
	e := Encoded{id: id, named: id != ""}
	if id == "" {
		e.id = randomID()
	}
	var err error
	if e.message, err = proto.Marshal(m); err != nil {
		return Encoded{}, fmt.Errorf("emulator: encoding a task: %w", err)
	}
	return e, nil
}

// Size is the size of the message in bytes.
func (e Encoded) Size() int { return len(e.message) }

// Decode reads the message of a task as it was given to [Encode].
func Decode(message []byte) *cloudtaskspb.Task {
	m := new(cloudtaskspb.Task)
	// Only Encode writes these bytes: they are valid.
	if err := proto.Unmarshal(message, m); err != nil {
		panic("emulator: stored task: " + err.Error())
	}
	return m
}

// randomID makes an ID like the service's own: about 20 decimal digits
// (docs/cloud-tasks.md#2).
func randomID() string {
	return fmt.Sprintf("%010d%010d", rand.Uint64N(1e10), rand.Uint64N(1e10))
}

// Task is a copy of what the engine knows of a task.
type Task struct {
	ID         string
	Message    []byte // read only; see [Decode]
	Created    time.Time
	Schedule   time.Time
	Dispatches int32
	Responses  int32
	First      time.Time // dispatch time of the first dispatch, zero before it
	Last       *Record   // nil before the first dispatch
}

func (t *task) copy() Task {
	c := Task{
		ID:       t.id,
		Message:  t.message,
		Created:  time.Unix(0, t.created),
		Schedule: time.Unix(0, t.due),
	}
	if l := t.life; l != nil {
		c.Dispatches, c.Responses = l.count, l.responses
		c.First = time.Unix(0, l.first)
		last := l.dispatches[len(l.dispatches)-1].copy()
		c.Last = &last
	}
	return c
}
