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

// nodes maps keys to Redis nodes. Calls share round trips node by node: a trip
// to several nodes is as slow as the slowest, so one that is down would delay
// all.
type nodes struct {
	rdb    redis.UniversalClient
	direct bool                                                         // rdb ends a read at a context's deadline
	master func(ctx context.Context, key string) (*redis.Client, error) // nil if there is one node only
	loaded atomic.Bool                                                  // master needs no call
	only   node
	each   sync.Map // *redis.Client to *node
}

func (ns *nodes) init(rdb redis.UniversalClient) {
	ns.rdb = rdb
	switch c := rdb.(type) {
	case *redis.Client: // of Sentinel, too
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

// maxInline is how long a round trip may block its caller's goroutine, and the
// callers that wait for it.
const maxInline = 250 * time.Millisecond

// node lets concurrent callers share the round trips to one Redis node. One trip
// is in progress at a time, and the next takes all calls made meanwhile.
// Compared with a trip for each call, 100 callers take a third of the client's
// CPU and half of Redis's. A goroutine runs only while there are calls to send.
type node struct {
	rdb    redis.UniversalClient // follows a key that has moved to another node
	direct bool
	calls  sync.Pool // a node's own: the channels in it must not leave a synctest bubble

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

// do sends cmd and waits for its response, or for the end of ctx. In the latter
// case the command may have been executed.
//
// go-redis does not interrupt a read when a context is cancelled, so another
// goroutine reads. If the client honours deadlines, which bound how long a read
// can block, a single caller reads itself: that saves the switch between
// goroutines, a third of the cost of a round trip.
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

// begin starts a trip unless one is in progress, and reports whether it did. In
// both cases c takes the next trip.
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
				// Yield, so that callers about to call join this trip: with busy processors
				// a quarter more do, and with an idle one this costs nothing.
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

// send carries out the calls of a batch that somebody waits for. A trip ends
// when one of its callers gives up, as soon as go-redis looks: it would send the
// call again and again otherwise, and a claim that is made after its owner has
// gone holds the work for a whole lease. The others are sent again, which is
// safe, because every call may be repeated by its owner.
func (n *node) send(batch []*call) {
	for again := true; again; {
		trip := newTrip(batch)
		n.exec(trip)
		again = trip.abandoned() && slices.ContainsFunc(trip.calls, (*call).unanswered)
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

// unanswered reports whether the caller waits for an answer that Redis has not
// given.
func (c *call) unanswered() bool {
	err := c.cmd.Err()
	return c.ctx.Err() == nil && err != nil && !isReply(err)
}

// trip is the context of a round trip. It ends when one of the callers gives
// up, which is found when it is asked: go-redis asks before it sends, and again
// before it repeats, and a goroutine for each trip would cost more than that.
type trip struct {
	context.Context // background

	calls []*call
}

// newTrip takes the calls of a batch that are to be sent.
func newTrip(batch []*call) *trip {
	t := &trip{Context: context.Background()}
	for _, c := range batch {
		if err := c.cmd.Err(); isReply(err) || err == nil && c.cmd.Val() != nil {
			continue // it is answered
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

// await runs fn and waits for it, or for the end of ctx; then fn goes on alone.
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

// ended returns ctx.Err, also between the deadline and its timer.
func ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d, ok := ctx.Deadline(); ok && !time.Now().Before(d) {
		return context.DeadlineExceeded
	}
	return nil
}
