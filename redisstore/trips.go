package redisstore

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxTrips is how many round trips are under way at once. What comes
	// meanwhile travels together in the next: with more trips at once they
	// carry less each, with one alone Redis waits for us between them.
	maxTrips = 2

	// patience is how long a command may keep its caller's goroutine.
	patience = 250 * time.Millisecond
)

// trips sends commands to Redis, and lets concurrent callers share round trips:
// measured against a round trip each, 100 callers take a third of the CPU on
// both ends. It starts a goroutine only while there is something to send.
type trips struct {
	rdb    redis.UniversalClient
	direct bool // a lone caller may do the round trip itself

	mu       sync.Mutex
	underway int
	waiting  []*call
}

// call is one command on its way.
type call struct {
	ctx  context.Context
	cmd  *redis.Cmd
	done chan struct{} // receives one value once cmd is answered
}

var calls = sync.Pool{New: func() any { return &call{done: make(chan struct{}, 1)} }}

// do sends cmd and waits for its answer, or for the end of ctx; then the
// command may or may not have been carried out.
//
// go-redis never interrupts a read when a context is cancelled, so somebody
// else has to do the reading. The exception is a client that honours deadlines,
// which bounds how long a lone caller can be stuck: it spares the hand-over
// between goroutines, a third of the cost of a round trip.
func (t *trips) do(ctx context.Context, cmd *redis.Cmd) error {
	t.mu.Lock()
	alone := t.underway < maxTrips
	if alone && t.direct {
		t.underway++
		t.mu.Unlock()
		until := time.Now().Add(patience)
		err := t.rdb.Process(hurried{ctx, until}, cmd)
		t.next()
		if over := ended(ctx); err != nil && over != nil {
			return over
		}
		if err == nil || isReply(err) || time.Now().Before(until) {
			return err
		}
		t.mu.Lock()
		alone = t.underway < maxTrips
	}
	c := calls.Get().(*call)
	c.ctx, c.cmd = ctx, cmd
	t.waiting = append(t.waiting, c)
	if alone {
		t.underway++
	}
	t.mu.Unlock()
	if alone {
		t.next()
	}
	select {
	case <-c.done:
		c.ctx, c.cmd = nil, nil
		calls.Put(c)
		return cmd.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// next sends what has gathered on the trip that has ended, if anything.
func (t *trips) next() {
	if batch := t.gathered(); len(batch) > 0 {
		go func() {
			for ; len(batch) > 0; batch = t.gathered() {
				t.send(batch)
			}
		}()
	}
}

func (t *trips) gathered() []*call {
	t.mu.Lock()
	defer t.mu.Unlock()
	batch := t.waiting
	t.waiting = nil
	if len(batch) == 0 {
		t.underway--
	}
	return batch
}

// send is bounded by the client's own timeouts: one caller's context must not
// end the commands of others.
func (t *trips) send(batch []*call) {
	ctx := context.Background()
	if len(batch) == 1 {
		_ = t.rdb.Process(ctx, batch[0].cmd) // the error is in cmd
	} else {
		pipe := t.rdb.Pipeline()
		for _, c := range batch {
			if err := c.ctx.Err(); err != nil { // nobody waits for it any more
				c.cmd.SetErr(err)
				continue
			}
			_ = pipe.Process(ctx, c.cmd)
		}
		_, _ = pipe.Exec(ctx) // the errors are in the commands
	}
	for _, c := range batch {
		c.done <- struct{}{}
	}
}

// all sends commands in one pipeline and waits for their answers, or for the
// end of ctx.
func (t *trips) all(ctx context.Context, cmds []*redis.Cmd) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		pipe := t.rdb.Pipeline()
		for _, cmd := range cmds {
			_ = pipe.Process(ctx, cmd)
		}
		_, _ = pipe.Exec(ctx)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hurried is a context with an earlier deadline, without the timer that
// context.WithDeadline starts: go-redis only reads the time.
type hurried struct {
	context.Context
	until time.Time
}

func (h hurried) Deadline() (time.Time, bool) {
	if d, ok := h.Context.Deadline(); ok && d.Before(h.until) {
		return d, true
	}
	return h.until, true
}

// ended is ctx.Err, also in the moment between the deadline and its timer.
func ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d, ok := ctx.Deadline(); ok && !time.Now().Before(d) {
		return context.DeadlineExceeded
	}
	return nil
}

// honoursDeadlines says whether the client ends a read at a context's deadline.
func honoursDeadlines(rdb redis.UniversalClient) bool {
	switch c := rdb.(type) {
	case *redis.Client: // of Sentinel, too
		return c.Options().ContextTimeoutEnabled
	case *redis.ClusterClient:
		return c.Options().ContextTimeoutEnabled
	case *redis.Ring:
		return c.Options().ContextTimeoutEnabled
	}
	return false
}
