package engine

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/proto"

	"github.com/brillconsulting/handoff/emulator/internal/encode"
)

// task is one task of a queue. There may be millions, nearly all of them
// waiting for their first attempt, so it holds what a waiting task needs
// and no more: 64 bytes beside its encoded message.
type task struct {
	data    []byte // length of the ID, the ID, the encoded message; never changed
	life    *life  // nil until the first dispatch
	seq     uint64 // order of creation in the queue
	created int64  // Unix nanoseconds, as all times here
	due     int64  // schedule time of the current or next attempt
	pos     int32  // place in the agenda, -1 while not waiting
	gone    bool   // no longer in the queue; an attempt may still run
}

// life is what a task has lived through.
type life struct {
	dispatches int32
	responses  int32
	executions int32 // responses other than 5xx
	running    int32
	first      int64  // dispatch time of the first attempt
	target     string // URL of its attempts; empty until one has ended
	attempts   []Record
}

// Most attempts whose records are kept with a task; the oldest go first.
const keptAttempts = 100

// Record is one attempt of a task, running or ended.
type Record struct {
	Schedule time.Time
	Dispatch time.Time
	Response time.Time // zero while none came
	Outcome
}

// Outcome is what became of an attempt. The zero Outcome is that of one
// that still runs.
type Outcome struct {
	Status  int    // HTTP status; 0 when no answer came
	Timeout bool   // no answer by the dispatch deadline
	Failure string // why there was no answer, otherwise

	RetryAfter time.Duration // as the answer has it; 0 if it has none
}

// OK says whether the task is done with (docs/cloud-tasks.md#7.4).
func (o Outcome) OK() bool { return o.Status >= 200 && o.Status <= 299 }

func (t *task) id() []byte {
	n, w := binary.Uvarint(t.data)
	return t.data[w : w+int(n)]
}

func (t *task) message() []byte {
	n, w := binary.Uvarint(t.data)
	return t.data[w+int(n):]
}

// Encoded is a task as it is kept.
type Encoded struct {
	data  []byte // of the task
	id    []byte // in data
	size  int    // of its message
	named bool   // by who made it
}

// Encode lays a task out for [Queue.Add], in one allocation of the exact size.
// With no ID it is given a random one. m must be the caller's alone.
func Encode(id string, m *cloudtaskspb.Task) (Encoded, error) {
	key := []byte(id)
	if id == "" {
		key = randomID()
	}
	message := encode.Measure(m)
	data := make([]byte, 0, 2+len(key)+message.Size)
	data = binary.AppendUvarint(data, uint64(len(key)))
	data = append(data, key...)
	begin := len(data)
	data, err := message.Append(data)
	if err != nil {
		return Encoded{}, fmt.Errorf("emulator: encoding a task: %w", err)
	}
	return Encoded{data: data, id: data[begin-len(key) : begin], size: message.Size, named: id != ""}, nil
}

// Size is how many bytes its message has.
func (e Encoded) Size() int { return e.size }

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
func randomID() []byte {
	id := make([]byte, 20)
	for half := range 2 {
		n := rand.Uint64N(1e10)
		for i := range 10 {
			id[half*10+9-i] = byte('0' + n%10)
			n /= 10
		}
	}
	return id
}

// Task is a copy of what the engine knows of a task.
type Task struct {
	ID         string
	Message    []byte // read only; see [Decode]
	Created    time.Time
	Schedule   time.Time
	Dispatches int32
	Responses  int32
	First      time.Time // dispatch time of the first attempt, zero before it
	Last       *Record   // nil before the first attempt
}

func (t *task) copy() Task {
	c := Task{
		ID:       string(t.id()),
		Message:  t.message(),
		Created:  time.Unix(0, t.created),
		Schedule: time.Unix(0, t.due),
	}
	if l := t.life; l != nil {
		c.Dispatches, c.Responses = l.dispatches, l.responses
		c.First = time.Unix(0, l.first)
		last := l.attempts[len(l.attempts)-1]
		c.Last = &last
	}
	return c
}
