package handoff

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/brillconsulting/handoff/internal/create"
)

// EnqueueBatch creates a task for each payload, a hundred at a call, and
// yields one pair for each, in order. The receipt and the error of a pair mean
// what those of [Client.Enqueue] mean; one payload's error stops nothing.
//
// It streams: a payload is taken when there is room for it, so a million never
// live in memory at once. Payloads are taken in the goroutine that ranges over
// the pairs. Calls go out when a hundred tasks of one queue are there, or 3 MB
// of them, and when the payloads end: payloads that trickle in belong to
// Enqueue. The options hold for every task; Key and Name are refused, before
// any payload is taken, with one pair that holds the error. A payload's
// IdempotencyKey is its key.
//
// When ctx ends, no more payloads are taken, and those that were each still
// yield their pair: created, failed, [ErrUnknown] or [ErrNotSent]. Breaking
// off the loop abandons what is in flight, which may or may not be created;
// a loop that must know ends ctx instead. Nothing runs on after the loop.
func EnqueueBatch[P Payload](ctx context.Context, client *Client, payloads iter.Seq[P], opts ...Option) iter.Seq2[Receipt, error] {
	return func(yield func(Receipt, error) bool) {
		b, err := client.newBatch(ctx, opts)
		if err != nil {
			yield(Receipt{}, err)
			return
		}
		defer b.close()
		for p := range payloads {
			if !b.add(p, yield) {
				return
			}
			if ctx.Err() != nil {
				break
			}
		}
		b.finish(yield)
	}
}

const (
	batchFlights = 8                                    // calls in flight
	batchPending = 2 * batchFlights * create.BatchTasks // items taken and not yet yielded
	batchOpen    = 4 * create.BatchBytes                // bytes waiting for their call to fill up
)

// batch is one run of EnqueueBatch. All of it belongs to the goroutine that
// ranges over the pairs, except a chunk between send and the closing of done.
type batch struct {
	client  *Client
	ctx     context.Context
	cancel  context.CancelFunc
	call    *call
	open    map[string]*chunk // by queue: not full yet
	bytes   int               // of the open chunks
	pending []*batchItem      // in the order of the payloads
	chunks  chan *chunk       // to send
	flights sync.WaitGroup
}

// chunk is what one batch call carries.
type chunk struct {
	queue string
	items []*create.Item
	bytes int
	sent  bool
	done  chan struct{} // closed when every item has its result
}

type batchItem struct {
	draft *draft
	err   error // decided before it was sent: then there is no chunk
	chunk *chunk
	task  create.Item
}

func (c *Client) newBatch(ctx context.Context, opts []Option) (*batch, error) {
	call, err := newCall(opts)
	if err = errors.Join(c.sends(), err); err != nil {
		return nil, err
	}
	if call.key != "" || call.name != "" {
		return nil, errors.New("handoff: EnqueueBatch: Key and Name are for one task; give the payload an IdempotencyKey")
	}
	b := &batch{client: c, call: call, open: make(map[string]*chunk), chunks: make(chan *chunk)}
	b.ctx, b.cancel = context.WithCancel(ctx)
	for range batchFlights {
		b.flights.Go(b.fly)
	}
	return b, nil
}

// close stops what is in flight, waits for it, and ends what a loop that was
// broken off did not take.
func (b *batch) close() {
	b.cancel()
	b.finish(func(Receipt, error) bool { return true })
	close(b.chunks)
	b.flights.Wait()
}

// add takes one payload, and yields what is ready. It is false if the loop was
// broken off.
func (b *batch) add(p Payload, yield func(Receipt, error) bool) bool {
	d, err := b.client.draft(p, b.call, time.Now())
	return b.addDraft(d, err, yield)
}

// addDraft is add for a task that was made before, or could not be.
func (b *batch) addDraft(d *draft, err error, yield func(Receipt, error) bool) bool {
	it := &batchItem{draft: d, err: err}
	b.pending = append(b.pending, it)
	if it.err == nil {
		it.draft.batch = true
		_, it.err = b.client.begin(b.ctx, it.draft)
	}
	if it.err == nil {
		b.put(it)
	}
	for len(b.pending) > 0 && (b.pending[0].ready() || len(b.pending) >= batchPending) {
		if !b.yieldFirst(yield) {
			return false
		}
	}
	return true
}

// put adds an item to the open chunk of its queue, and sends what is full.
func (b *batch) put(it *batchItem) {
	queue, size := it.draft.receipt.Queue, proto.Size(it.draft.req)
	c := b.open[queue]
	if c != nil && c.bytes+size > create.BatchBytes {
		b.send(c)
		c = nil
	}
	if c == nil {
		c = &chunk{queue: queue, items: make([]*create.Item, 0, create.BatchTasks), done: make(chan struct{})}
		b.open[queue] = c
	}
	it.chunk, it.task = c, create.Item{Req: it.draft.req, ID: it.draft.receipt.ID}
	it.draft.req = nil // the chunk lets go of it when it is done
	c.items = append(c.items, &it.task)
	c.bytes += size
	b.bytes += size
	if len(c.items) == create.BatchTasks {
		b.send(c)
	}
	if b.bytes > batchOpen {
		for _, c := range b.open {
			b.send(c)
		}
	}
}

// send hands a chunk over, when one of the flights is free for it.
func (b *batch) send(c *chunk) {
	if c.sent {
		return
	}
	c.sent = true
	delete(b.open, c.queue)
	b.bytes -= c.bytes
	b.chunks <- c
}

// fly makes one call after the other.
func (b *batch) fly() {
	for c := range b.chunks {
		b.client.creator.Batch(b.ctx, b.client.queues+c.queue, c.items)
		for _, it := range c.items {
			it.Req = nil
		}
		close(c.done)
	}
}

func (it *batchItem) ready() bool {
	if it.chunk == nil {
		return true
	}
	select {
	case <-it.chunk.done:
		return true
	default:
		return false
	}
}

// yieldFirst waits for the first of the pending items and yields its pair.
func (b *batch) yieldFirst(yield func(Receipt, error) bool) bool {
	it := b.pending[0]
	b.pending[0] = nil
	b.pending = b.pending[1:]
	switch {
	case it.draft == nil:
		return yield(Receipt{}, it.err)
	case it.chunk == nil:
		return yield(b.client.end(it.draft, create.Created{}, it.err))
	}
	b.send(it.chunk)
	<-it.chunk.done
	return yield(b.client.end(it.draft, it.task.Created, it.task.Err))
}

// finish sends what is left and yields every pair that is still owed.
func (b *batch) finish(yield func(Receipt, error) bool) {
	for _, c := range b.open {
		b.send(c)
	}
	for len(b.pending) > 0 {
		if !b.yieldFirst(yield) {
			return
		}
	}
}
