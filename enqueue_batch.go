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

// EnqueueBatch creates a task for each payload, up to 100 in one call, and yields
// a receipt and an error for each, in order. They mean the same as those of
// [Client.Enqueue]. An error of one payload does not stop the others.
//
// EnqueueBatch reads payloads while it sends, so that only a few thousand are in
// memory at once. It reads them in the goroutine of the loop. A call is sent when
// 100 tasks or 3 MB for one queue have been read, and at the end of payloads. If
// payloads arrive slowly, use Enqueue. The options apply to every task. With Key
// or Name, EnqueueBatch reads no payload and yields only an error. A payload's
// IdempotencyKey is its key.
//
// When ctx ends, EnqueueBatch reads no more payloads and yields the results of
// those that it has read; they may be [ErrUnknown] or [ErrNotSent]. Breaking out
// of the loop cancels the calls in progress, whose tasks may or may not be
// created; to learn which, cancel ctx instead. No goroutine is left after the
// loop.
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
	batchFlights = 8                                    // calls in progress
	batchPending = 2 * batchFlights * create.BatchTasks // items read and not yet yielded
	batchOpen    = 4 * create.BatchBytes                // bytes in chunks that are not sent yet
)

// batch is one run of EnqueueBatch. Only the goroutine of the loop uses it, except
// for a chunk between send and the closing of its done.
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

// chunk holds the tasks of one batch call.
type chunk struct {
	queue string
	items []*create.Item
	bytes int
	sent  bool
	done  chan struct{} // closed when every item has its result
}

type batchItem struct {
	draft *draft
	err   error // why the task was not sent; chunk is nil then
	chunk *chunk
	task  create.Item
}

func (c *Client) newBatch(ctx context.Context, opts []Option) (*batch, error) {
	call, err := newCall(opts)
	if err = errors.Join(c.sends(), err); err != nil {
		return nil, err
	}
	if call.key != "" || call.name != "" {
		return nil, errors.New("handoff: EnqueueBatch: Key and Name are for one task; use a payload with an IdempotencyKey")
	}
	b := &batch{client: c, call: call, open: make(map[string]*chunk), chunks: make(chan *chunk)}
	b.ctx, b.cancel = context.WithCancel(ctx)
	for range batchFlights {
		b.flights.Go(b.fly)
	}
	return b, nil
}

// close cancels the calls in progress, waits for them, and ends the drafts whose
// results were not yielded because of a break.
func (b *batch) close() {
	b.cancel()
	b.finish(func(Receipt, error) bool { return true })
	close(b.chunks)
	b.flights.Wait()
}

// add adds one payload and yields the results that are ready. It returns false
// after a break.
func (b *batch) add(p Payload, yield func(Receipt, error) bool) bool {
	d, err := b.client.draft(p, b.call, time.Now())
	return b.addDraft(d, err, yield)
}

// addDraft is add for a draft, or the error of making it.
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

// put adds an item to the open chunk of its queue, and sends chunks that are full.
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
	it.draft.req = nil // so that the request is freed when fly is done with it
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

// send passes a chunk to a goroutine of fly, and waits until one is free.
func (b *batch) send(c *chunk) {
	if c.sent {
		return
	}
	c.sent = true
	delete(b.open, c.queue)
	b.bytes -= c.bytes
	b.chunks <- c
}

// fly makes the calls of chunks, one after the other.
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

// finish sends the remaining chunks and yields the remaining results.
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
