package handoff

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Held is the work that a handler runs now, as its Store knows it. It is for
// packages that mark work as done by other means than the router's, such as in
// the transaction that holds the effect. It is safe for concurrent use, until
// the handler returns.
type Held struct{ d *delivery }

// HeldFromContext returns the work that ctx runs. It is false in a context that
// does not come from a [Router].
func HeldFromContext(ctx context.Context) (*Held, bool) {
	run, ok := ctx.Value(infoKey{}).(*delivery)
	if !ok {
		return nil, false
	}
	return &Held{run}, true
}

// Lease returns the claim that the work runs under. Its Window is that of the
// mark: how long finished work is remembered.
func (h *Held) Lease() Lease {
	l := h.d.lease.Lease
	l.Window = h.d.finalWindow()
	return l
}

// Token returns the fencing token of the claim.
func (h *Held) Token() int64 { return h.d.claim.Token }

// Note returns what an ending mark must keep, because somebody is to be told
// when the work is done; nil if completing it is all that is left.
func (h *Held) Note() []byte { return h.d.marker.note }

// Marked says that the work was marked as done, or as ending where there is a
// [Held.Note], in a transaction. When the handler has returned, the router calls
// committed instead of completing or releasing the claim:
//
//   - true: the work is done, whatever the handler returned;
//   - false: there is no mark. The handler's error counts, and nil is a failure;
//   - an error: nobody can say. The delivery is [Unavailable], and nothing is
//     released.
//
// committed has 5 s more than it takes the Store to answer, and must honour its
// context. The latest call counts; nil takes the mark back.
func (h *Held) Marked(committed func(ctx context.Context) (bool, error)) {
	h.d.marker.set(committed, false)
}

// MarkedBeside is as [Held.Marked] for a mark that is not in the router's Store:
// once committed, the router completes the claim in the Store as well.
func (h *Held) MarkedBeside(committed func(ctx context.Context) (bool, error)) {
	h.d.marker.set(committed, true)
}

// Memo returns what the work keeps: what [Held.Keep] kept last, in this attempt
// or in one before; nil for none.
func (h *Held) Memo() []byte {
	h.d.marker.mu.Lock()
	defer h.d.marker.mu.Unlock()
	return slices.Clone(h.d.claim.Memo)
}

// Keep keeps memo with the work in place of the memo before, for as long as the
// work is not done. It is at most [MaxMemo] bytes. With ErrLeaseLost nothing was
// kept; with another error nobody can say.
func (h *Held) Keep(ctx context.Context, memo []byte) error {
	h.d.marker.mu.Lock()
	defer h.d.marker.mu.Unlock()
	keep := func() error { return h.d.router.config.Store.Keep(ctx, h.d.lease.Lease, memo) }
	if err := guard("Store.Keep", keep); err != nil {
		return fmt.Errorf("handoff: keep: %w", err)
	}
	h.d.claim.Memo = slices.Clone(memo)
	return nil
}

// marker is what a delivery knows of a mark that the router does not make itself.
type marker struct {
	mu        sync.Mutex
	committed func(ctx context.Context) (bool, error) // nil for none
	beside    bool                                    // it is not in the Store
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

var errNotCommitted = errors.New("handoff: marked in a transaction that did not commit")

// ErrAlreadyDone from a handler says that the work was done before, by the word
// of something that knows better than the Store, such as an inbox in a database.
// The delivery is a [Duplicate], and the Store is told that the work is done.
var ErrAlreadyDone = errors.New("handoff: already done")

// settleMarked ends a delivery whose work may have been marked as done by other
// means. If it was not, it is not settled, and left is what the handler is to be
// taken to have returned.
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
		d.router.log.Error("handoff: it is not known whether the transaction that marks the work committed; its lease is left to run out",
			d.attrs("error", errors.Join(cerr, err))...)
		d.end(Unavailable, errors.Join(cerr, err))
		return true, nil
	case !done:
		return false, cmp.Or(err, errNotCommitted)
	}
	if err != nil {
		d.router.log.Warn("handoff: the handler returned an error after its work was committed as done", d.attrs("error", err)...)
	}
	d.detach()
	if beside || d.marker.note != nil {
		d.complete(Done, err)
		return true, nil
	}
	d.end(Done, err)
	return true, nil
}
