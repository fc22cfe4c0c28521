package redisstore

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// nodes maps keys to Redis nodes. Only calls to the same node share a round trip:
// in a trip to several nodes, one node that is down would delay all calls.
type nodes struct {
	rdb    redis.UniversalClient
	direct bool                                                         // rdb ends reads at the context's deadline
	master func(ctx context.Context, key string) (*redis.Client, error) // nil if there is only one node
	loaded atomic.Bool                                                  // master needs no call
	only   node
	each   sync.Map // *redis.Client to *node
}

func (ns *nodes) init(rdb redis.UniversalClient) {
	ns.rdb = rdb
	switch c := rdb.(type) {
	case *redis.Client: // also a client of Sentinel
		ns.direct = c.Options().ContextTimeoutEnabled
	case *redis.ClusterClient:
		ns.direct = c.Options().ContextTimeoutEnabled
		ns.master = c.MasterForKey
	}
	ns.only.init(ns)
}

func (ns *nodes) of(ctx context.Context, key string) (*node, error) {
	if ns.master == nil {
		return &ns.only, nil
	}
	if !ns.loaded.Load() {
		err := await(ctx, func() error {
			_, err := ns.master(context.WithoutCancel(ctx), key)
			return err
		})
		if err != nil {
			return nil, err
		}
		ns.loaded.Store(true)
	}
	master, err := ns.master(ctx, key)
	if err != nil {
		return nil, err
	}
	if n, ok := ns.each.Load(master); ok {
		return n.(*node), nil
	}
	fresh := new(node)
	fresh.init(ns)
	n, _ := ns.each.LoadOrStore(master, fresh)
	return n.(*node), nil
}

// maxInline is how long a round trip may run in its caller's goroutine, while
// other callers wait for the next trip.
const maxInline = 250 * time.Millisecond

// node lets concurrent callers share the round trips to one Redis node. One trip
// is in progress at a time; the next one sends all calls made in the meantime.
// Compared with a trip for each call, 100 callers take a third of the client's
// CPU and half of Redis's. A goroutine runs only while there are calls to send.
type node struct {
	rdb    redis.UniversalClient // also reaches keys that have moved to another node
	direct bool
	calls  sync.Pool // per node, because its channels must not leave a synctest bubble

	mu       sync.Mutex
	underway int       // more than one only while Redis is slow
	since    time.Time // when the latest trip began
	waiting  []*call
}

func (n *node) init(ns *nodes) {
	n.rdb, n.direct = ns.rdb, ns.direct
	n.calls.New = func() any { return &call{done: make(chan struct{}, 1)} }
}

// call is one command in progress.
type call struct {
	ctx  context.Context
	cmd  *redis.Cmd
	done chan struct{} // receives one value when cmd has its response
}

// do sends cmd and waits for its response or for the end of ctx. If ctx ends
// first, Redis may or may not have executed cmd.
//
// go-redis does not interrupt a read when a context is cancelled, so the read is
// done by another goroutine. If the client honours deadlines, a read cannot block
// for long, and a lone caller reads in its own goroutine. That saves a switch
// between goroutines, a third of the cost of a round trip.
func (n *node) do(ctx context.Context, cmd *redis.Cmd) error {
	if n.direct && n.begin(nil) {
		until := time.Now().Add(maxInline)
		err := n.rdb.Process(hurried{ctx, until}, cmd)
		n.next()
		if over := ended(ctx); err != nil && over != nil {
			return over
		}
		if err == nil || isReply(err) || time.Now().Before(until) {
			return err
		}
	}
	c := n.calls.Get().(*call)
	c.ctx, c.cmd = ctx, cmd
	if n.begin(c) {
		n.next()
	}
	select {
	case <-c.done:
		c.ctx, c.cmd = nil, nil
		n.calls.Put(c)
		return cmd.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// begin adds c to the next trip. It starts that trip unless one is in progress,
// and reports whether it did.
func (n *node) begin(c *call) (started bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c != nil {
		n.waiting = append(n.waiting, c)
	}
	if n.underway > 0 && time.Since(n.since) < maxInline {
		return false
	}
	n.underway++
	n.since = time.Now()
	return true
}

// next sends the waiting calls, if there are any.
func (n *node) next() {
	if batch := n.gather(); len(batch) > 0 {
		go func() {
			for ; len(batch) > 0; batch = n.gather() {
				n.send(batch)
				// Yield, so that goroutines about to call join this trip. On busy
				// processors a quarter more do; on idle ones this costs nothing.
				runtime.Gosched()
			}
		}()
	}
}

func (n *node) gather() []*call {
	n.mu.Lock()
	defer n.mu.Unlock()
	batch := n.waiting
	n.waiting = nil
	if len(batch) == 0 {
		n.underway--
	} else {
		n.since = time.Now()
	}
	return batch
}

// send makes the calls of a batch whose callers still wait. When a caller gives
// up, the context of the trip ends, so that go-redis does not retry it: a claim
// that is made after its caller has gone would hold the work for a whole lease.
// send then sends the remaining calls again. That is safe, because an owner may
// repeat any call.
func (n *node) send(batch []*call) {
	for pending := true; pending; {
		trip := newTrip(batch)
		n.exec(trip)
		pending = trip.abandoned() && slices.ContainsFunc(trip.calls, (*call).pending)
	}
	for _, c := range batch {
		c.done <- struct{}{}
	}
}

func (n *node) exec(t *trip) {
	switch len(t.calls) {
	case 0:
	case 1:
		_ = n.rdb.Process(t, t.calls[0].cmd) // the error is in cmd
	default:
		pipe := n.rdb.Pipeline()
		for _, c := range t.calls {
			_ = pipe.Process(t, c.cmd)
		}
		_, _ = pipe.Exec(t) // the errors are in the commands
	}
}

// pending reports whether the caller still waits for a response.
func (c *call) pending() bool {
	err := c.cmd.Err()
	return c.ctx.Err() == nil && err != nil && !isReply(err)
}

// trip is the context of a round trip. It ends when one of its callers gives up.
// Err and Done check the callers each time they are called, which go-redis does
// before it sends and before it retries. A goroutine that watches the callers
// would cost more.
type trip struct {
	context.Context // background

	calls []*call
}

// newTrip returns a trip with the calls of batch that have no response yet and
// whose callers still wait.
func newTrip(batch []*call) *trip {
	t := &trip{Context: context.Background()}
	for _, c := range batch {
		if err := c.cmd.Err(); isReply(err) || err == nil && c.cmd.Val() != nil {
			continue // it has its response
		}
		gone := c.ctx.Err()
		c.cmd.SetErr(gone)
		if gone == nil {
			t.calls = append(t.calls, c)
		}
	}
	return t
}

func (t *trip) abandoned() bool {
	return slices.ContainsFunc(t.calls, func(c *call) bool { return c.ctx.Err() != nil })
}

func (t *trip) Err() error {
	if t.abandoned() {
		return context.Canceled
	}
	return nil
}

func (t *trip) Done() <-chan struct{} {
	if t.abandoned() {
		return over
	}
	return nil
}

var over = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// await runs fn in another goroutine and waits for it or for the end of ctx. If ctx
// ends first, fn runs on.
func await(ctx context.Context, fn func() error) error {
	done := make(chan error, 1)
	go func() { done <- fn() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hurried is a context with an earlier deadline. It has no timer, unlike one of
// context.WithDeadline, because go-redis only reads the deadline.
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

// ended returns ctx.Err(), or context.DeadlineExceeded if the deadline has passed
// and the context's timer has not fired yet.
func ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d, ok := ctx.Deadline(); ok && !time.Now().Before(d) {
		return context.DeadlineExceeded
	}
	return nil
}
