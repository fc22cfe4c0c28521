package handoff

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/brillconsulting/handoff/internal/watch"
)

// Held is the claim of the work that a handler is running. It is for packages that
// mark work as done themselves, such as in the transaction of the handler's
// effect. It is safe for concurrent use until the handler returns, and must not be
// used after that.
type Held struct{ d *delivery }

// HeldFromContext returns the Held of the task that runs with ctx. It returns
// false if ctx does not come from a [Router].
func HeldFromContext(ctx context.Context) (*Held, bool) {
	run, ok := ctx.Value(infoKey{}).(*delivery)
	if !ok {
		return nil, false
	}
	return &Held{run}, true
}

// Lease returns the lease of the claim. Its Window is how long the mark of the
// finished work lives.
func (h *Held) Lease() Lease {
	return h.d.finalLease()
}

// Token returns the fencing token of the claim.
func (h *Held) Token() int64 { return h.d.claim.Token }

// Note returns the note to pass to [Store].End, for work that has more to do once
// it is done. It is nil if the work is to be marked as done by [Store].Complete.
func (h *Held) Note() []byte { return h.d.marker.note }

// Marked tells the router that a transaction marks the work as done, or as ending
// if [Held.Note] is not nil. After the handler returns, the router calls
// committed to learn whether the transaction committed. If it returns
//
//   - true, the work is done, whatever the handler returned;
//   - false, there is no mark: the handler's error decides, and the attempt fails
//     if it is nil;
//   - an error, the result is not known: the delivery is [Unavailable], and the
//     claim is not released.
//
// The context of committed ends after 10 s. A later call of Marked or
// [Held.MarkedBeside] replaces committed; nil removes it.
func (h *Held) Marked(committed func(ctx context.Context) (bool, error)) {
	h.d.marker.set(committed, false)
}

// MarkedBeside is like [Held.Marked] for a mark that is not in the router's Store.
// If the transaction committed, the router also completes the claim in the Store.
func (h *Held) MarkedBeside(committed func(ctx context.Context) (bool, error)) {
	h.d.marker.set(committed, true)
}

// Memo returns a copy of the memo that [Held.Keep] stored last, in this attempt or
// an earlier one. It is nil if there is none.
func (h *Held) Memo() []byte {
	h.d.marker.mu.Lock()
	defer h.d.marker.mu.Unlock()
	return slices.Clone(h.d.claim.Memo)
}

// Keep stores memo with the work until the work is done, in place of the memo
// before. memo is at most [MaxMemo] bytes. Keep returns an error that wraps
// [ErrLeaseLost] if the lease was lost and memo was not stored. After any other
// error memo may or may not be stored.
func (h *Held) Keep(ctx context.Context, memo []byte) error {
	h.d.marker.mu.Lock()
	defer h.d.marker.mu.Unlock()
	keep := func() error { return h.d.router.config.Store.Keep(ctx, h.d.lease.Lease, memo) }
	if err := guard("Store.Keep", keep); err != nil {
		return fmt.Errorf("handoff: keep: %w", err)
	}
	h.kept(memo)
	return nil
}

// Kept notes that a transaction, which has committed, stored memo with the work as
// [Held.Keep] does. A package that keeps memos in transactions calls it, so that
// [Held.Memo] and [Continue] know.
func (h *Held) Kept(memo []byte) {
	h.d.marker.mu.Lock()
	defer h.d.marker.mu.Unlock()
	h.kept(memo)
}

func (h *Held) kept(memo []byte) {
	m := &h.d.marker
	if m.before == nil {
		claimed := h.d.claim.Memo
		m.before = &claimed
	}
	m.changed = !bytes.Equal(memo, *m.before)
	h.d.claim.Memo = slices.Clone(memo)
}

// Late reports whether a long handler should stop, keep what it needs to continue,
// and return [Continue]: at most a tenth of the attempt's time is left, or 30 s if
// that is less, or the router is shutting down.
func (h *Held) Late() bool {
	if late, ok := h.d.result.ctx.Value(watch.Late{}).(func() bool); ok && late() {
		return true
	}
	return time.Until(h.d.result.Info.Deadline) <= min(h.d.limit()/10, maxLate) || h.d.router.isDraining()
}

const maxLate = 30 * time.Second

// marker holds what the handler set by Held. mu also guards the claim's Memo.
type marker struct {
	mu        sync.Mutex
	before    *[]byte                                 // the memo of the claim; nil until Keep is called
	changed   bool                                    // the memo is another than before
	committed func(ctx context.Context) (bool, error) // nil for none
	beside    bool                                    // the mark is not in the Store
	note      []byte
}

func (m *marker) set(committed func(ctx context.Context) (bool, error), beside bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.committed, m.beside = committed, beside
}

func (m *marker) get() (committed func(ctx context.Context) (bool, error), beside bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.committed, m.beside
}

// progressed reports whether the attempt may continue in a copy.
func (m *marker) progressed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

var errNotCommitted = errors.New("handoff: marked in a transaction that did not commit")

// ErrAlreadyDone from a handler means that the work was done before, although the
// Store had no mark of it: a database table of finished work may have one, for
// example. The delivery is a [Duplicate], and the router marks the work as done.
var ErrAlreadyDone = errors.New("handoff: already done")

// settleMarked ends a delivery whose handler called Marked or MarkedBeside. If
// there is no mark, settled is false, and left is the error to settle the attempt
// with.
func (d *delivery) settleMarked(err error) (settled bool, left error) {
	committed, beside := d.marker.get()
	if committed == nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.result.ctx), 2*storeTimeout)
	defer cancel()
	var done bool
	cerr := guard("Held.Marked", func() (err error) {
		done, err = committed(ctx)
		return err
	})
	switch {
	case cerr != nil:
		d.detach()
		d.result.Reason = ReasonStore
		d.end(Unavailable, fmt.Errorf("handoff: it is not known whether the transaction that marks the work committed; its lease is left to run out: %w",
			errors.Join(cerr, err)))
		return true, nil
	case !done:
		return false, cmp.Or(err, errNotCommitted)
	}
	if err != nil {
		d.log(slog.LevelWarn, "handoff: the handler returned an error after its work was committed as done", "error", err)
	}
	d.detach()
	if beside || d.marker.note != nil {
		d.complete(d.finalLease(), Done, err)
		return true, nil
	}
	d.end(Done, err)
	return true, nil
}
