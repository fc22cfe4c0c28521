package handofftest

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
)

// LoseResponses loses the responses of the next n dispatches, as if the
// connection had broken. Their handlers run, and Cloud Tasks retries the tasks.
func (k *Kit) LoseResponses(n int) {
	k.Emulator.InjectDispatch(emulator.DispatchFault{Times: n, LoseResponse: true})
}

// DeliverTwice makes each of the next n dispatches two deliveries at the same
// time.
func (k *Kit) DeliverTwice(n int) {
	k.Emulator.InjectDispatch(emulator.DispatchFault{Times: n, Twice: true})
}

// DeliverAgain delivers the tasks of the next n dispatches a second time, after
// the first delivery has succeeded.
func (k *Kit) DeliverAgain(n int) {
	k.Emulator.InjectDispatch(emulator.DispatchFault{Times: n, Again: true})
}

// RotateKeys signs all later dispatches with a new key that the verifier does not
// have yet. The verifier refuses the next delivery, then fetches the key and
// accepts those that follow.
func (k *Kit) RotateKeys() {
	k.t.Helper()
	if err := k.Emulator.RotateKey(); err != nil {
		k.t.Fatalf("handofftest: %v", err)
	}
	k.verifier.outdated()
}

// StoreDown makes every call of the Store fail until up is called, as if Redis
// could not be reached. Call it in a handler to make the Store fail
// when the router marks the outcome.
func (k *Kit) StoreDown() (up func()) {
	k.store.down.Add(1)
	return sync.OnceFunc(func() { k.store.down.Add(-1) })
}

// store is the Store of a Kit. It can be down. It records in the sight of each
// delivery what became of the claim.
type store struct {
	handoff.Store

	down atomic.Int32
}

var errDown = errors.New("handofftest: the store is down, by Kit.StoreDown")

func (s *store) reach() error {
	if s.down.Load() > 0 {
		return errDown
	}
	return nil
}

func (s *store) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	if err := s.reach(); err != nil {
		return handoff.Claim{}, err
	}
	claim, err := s.Store.Claim(ctx, l)
	if err == nil && (claim.Status == handoff.ClaimAcquired || claim.Status == handoff.ClaimEnding) {
		note(ctx, func(seen *sight) {
			seen.settled, seen.buried, seen.memo = StillHeld, claim.Status == handoff.ClaimEnding, claim.Memo
		})
	}
	return claim, err
}

func (s *store) Renew(ctx context.Context, leases []handoff.Lease) ([]bool, error) {
	if err := s.reach(); err != nil {
		return make([]bool, len(leases)), err
	}
	return s.Store.Renew(ctx, leases)
}

func (s *store) Complete(ctx context.Context, l handoff.Lease) error {
	return s.settle(ctx, func() error { return s.Store.Complete(ctx, l) }, func(seen *sight) {
		seen.settled = Completed
		if seen.buried {
			seen.settled = Buried
		}
	})
}

func (s *store) Release(ctx context.Context, l handoff.Lease, counted bool) error {
	return s.settle(ctx, func() error { return s.Store.Release(ctx, l, counted) }, func(seen *sight) {
		seen.settled = Uncounted
		if counted {
			seen.settled = Counted
		}
	})
}

func (s *store) Keep(ctx context.Context, l handoff.Lease, memo []byte) error {
	if err := s.reach(); err != nil {
		return err
	}
	err := s.Store.Keep(ctx, l, memo)
	if err == nil {
		note(ctx, func(seen *sight) {
			if !bytes.Equal(memo, seen.memo) {
				seen.memo, seen.kept = bytes.Clone(memo), seen.kept+1
			}
		})
	}
	return err
}

func (s *store) End(ctx context.Context, l handoff.Lease, text []byte) error {
	return s.settle(ctx, func() error { return s.Store.End(ctx, l, text) }, func(seen *sight) { seen.buried = true })
}

func (s *store) settle(ctx context.Context, call func() error, done func(*sight)) error {
	err := s.reach()
	if err == nil {
		err = call()
	}
	switch {
	case err == nil:
		note(ctx, done)
	case errors.Is(err, handoff.ErrLeaseLost):
		note(ctx, func(seen *sight) { seen.settled = LeaseLost })
	}
	return err
}

// note calls tell with the sight in ctx, if there is one. There is none when the
// router releases a claim whose response it did not receive.
func note(ctx context.Context, tell func(*sight)) {
	if seen, ok := ctx.Value(sightKey{}).(*sight); ok {
		tell(seen)
	}
}

// verifier is the Verifier of a Kit. Its keys can be stale, see RotateKeys.
type verifier struct {
	server             *emulator.Server
	callers, audiences []string

	mu      sync.Mutex
	oidc    handoff.Verifier
	refetch bool
}

func newVerifier(t testing.TB, server *emulator.Server, callers, audiences []string) *verifier {
	t.Helper()
	oidc, err := oidcOf(server, callers, audiences)
	if err != nil {
		t.Fatalf("handofftest: %v", err)
	}
	return &verifier{server: server, callers: callers, audiences: audiences, oidc: oidc}
}

func (v *verifier) outdated() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.refetch = true
}

// Verify refuses a token whose key it does not have yet.
func (v *verifier) Verify(r *http.Request) (handoff.Caller, error) {
	v.mu.Lock()
	oidc, refetch := v.oidc, v.refetch
	v.mu.Unlock()
	caller, err := oidc.Verify(r)
	if err != nil && refetch {
		v.fetch()
	}
	return caller, err
}

func (v *verifier) fetch() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if oidc, err := oidcOf(v.server, v.callers, v.audiences); err == nil {
		v.oidc, v.refetch = oidc, false
	}
}
