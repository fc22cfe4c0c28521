package oidc_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/oidc"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
)

var other = sync.OnceValue(func() *oidctest.Key { return oidctest.NewKey("other-key") })

// server publishes keys, or fails to.
type server struct {
	mu      sync.Mutex
	keys    []*oidctest.Key
	life    time.Duration
	takes   time.Duration
	err     error
	fetches int
}

func (s *server) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *server) fetch(ctx context.Context) (*oidc.Keys, time.Duration, error) {
	s.mu.Lock()
	s.fetches++
	raw, life, takes, err := oidctest.JWKS(s.keys...), s.life, s.takes, s.err
	s.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
	if err != nil {
		return nil, 0, err
	}
	keys, err := oidc.ParseKeys(raw)
	return keys, life, err
}

func (s *server) fetched(t *testing.T, want int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fetches != want {
		t.Fatalf("%d fetches, want %d", s.fetches, want)
	}
}

// bubble runs test in virtual time. The keys of its Verifier come from a server
// that responds after a second, with keys that are fresh for an hour.
func bubble(t *testing.T, test func(t *testing.T, v *oidc.Verifier, s *server)) {
	t.Parallel()
	oidctest.Shared() // made before any clock is virtual
	other()
	synctest.Test(t, func(t *testing.T) {
		s := &server{keys: []*oidctest.Key{oidctest.Shared()}, life: time.Hour, takes: time.Second}
		test(t, oidc.New(policy, oidc.Remote(s.fetch)), s)
		synctest.Wait()
	})
}

// waited runs fn and returns how long that took.
func waited(fn func()) time.Duration {
	start := time.Now()
	fn()
	return time.Since(start)
}

var errNetwork = errors.New("network unreachable")

func TestColdCacheFetchesOnce(t *testing.T) {
	bubble(t, func(t *testing.T, v *oidc.Verifier, s *server) {
		s.fetched(t, 0) // none before the first request
		var wg sync.WaitGroup
		token := oidctest.Shared().Good()
		for range 1000 {
			wg.Go(func() {
				if r := reason(t, v, token); r != "" {
					t.Errorf("refused: %s", r)
				}
			})
		}
		assert.Equal(t, waited(wg.Wait), time.Second)
		s.fetched(t, 1)
	})
}

func TestAWaiterLeavesAlone(t *testing.T) {
	bubble(t, func(t *testing.T, v *oidc.Verifier, s *server) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		left := make(chan error)
		go func() {
			_, err := v.Verify(ctx, bearer(oidctest.Shared().Good())) // starts the fetch
			left <- err
		}()
		synctest.Wait()
		stayed := make(chan string)
		go func() { stayed <- reason(t, v, oidctest.Shared().Good()) }()
		err := <-left
		refusal, _ := errors.AsType[*oidc.Refusal](err)
		assert.Equal(t, refusal.Reason, oidc.KeysUnavailable)
		assert.Equal(t, <-stayed, "")
		s.fetched(t, 1)
	})
}

func TestWithoutKeysNothingIsSaid(t *testing.T) {
	bubble(t, func(t *testing.T, v *oidc.Verifier, s *server) {
		s.set(func() { s.err = errNetwork })
		for range 100 { // the first fetches, and the others learn from it
			assert.Equal(t, reason(t, v, oidctest.Shared().Good()), oidc.KeysUnavailable)
		}
		s.fetched(t, 1)
		time.Sleep(5 * time.Second)
		s.set(func() { s.err = nil })
		assert.Equal(t, reason(t, v, oidctest.Shared().Good()), "")
		s.fetched(t, 2)
	})
}

func TestAFetchThatHangsEnds(t *testing.T) {
	bubble(t, func(t *testing.T, v *oidc.Verifier, s *server) {
		s.set(func() { s.takes = 24 * time.Hour })
		assert.Equal(t, waited(func() {
			assert.Equal(t, reason(t, v, oidctest.Shared().Good()), oidc.KeysUnavailable)
		}), oidc.FetchTimeout)
	})
}

func TestKeysAreRefreshedAhead(t *testing.T) {
	bubble(t, func(t *testing.T, v *oidc.Verifier, s *server) {
		assert.Equal(t, reason(t, v, oidctest.Shared().Good()), "")
		known := oidctest.Shared().Good()
		assert.Equal(t, reason(t, v, known), "")
		time.Sleep(53 * time.Minute)
		assert.Equal(t, reason(t, v, oidctest.Shared().Good()), "")
		s.fetched(t, 1)

		time.Sleep(2 * time.Minute) // more than nine tenths of their life
		s.set(func() { s.keys = []*oidctest.Key{oidctest.Shared(), other()} })
		assert.Equal(t, waited(func() {
			assert.Equal(t, reason(t, v, known), "") // from memory; this starts the refresh
			assert.Equal(t, reason(t, v, oidctest.Shared().Good()), "")
		}), 0)
		time.Sleep(2 * time.Second)
		s.fetched(t, 2)
		assert.Equal(t, waited(func() { assert.Equal(t, reason(t, v, other().Good()), "") }), 0)
		s.fetched(t, 2)
	})
}

func TestStaleKeysServeWhileFetchingFails(t *testing.T) {
	bubble(t, func(t *testing.T, v *oidc.Verifier, s *server) {
		assert.Equal(t, reason(t, v, oidctest.Shared().Good()), "")
		time.Sleep(61 * time.Minute) // no request refreshed them in time
		s.set(func() { s.err = errNetwork })
		assert.Equal(t, waited(func() { assert.Equal(t, reason(t, v, oidctest.Shared().Good()), "") }), time.Second)
		s.fetched(t, 2)

		// The fetch has failed, so no request waits for its retries.
		for range 10 {
			time.Sleep(6 * time.Second)
			assert.Equal(t, waited(func() { assert.Equal(t, reason(t, v, oidctest.Shared().Good()), "") }), 0)
		}
		time.Sleep(2 * time.Second)
		s.fetched(t, 12)

		time.Sleep(24 * time.Hour)
		assert.Equal(t, reason(t, v, oidctest.Shared().Good()), oidc.KeysUnavailable)
		time.Sleep(6 * time.Second)
		s.set(func() { s.err = nil })
		assert.Equal(t, reason(t, v, oidctest.Shared().Good()), "")
	})
}

func TestAnUnknownKeyIsLookedUpOnceAMinute(t *testing.T) {
	bubble(t, func(t *testing.T, v *oidc.Verifier, s *server) {
		assert.Equal(t, reason(t, v, oidctest.Shared().Good()), "")
		time.Sleep(time.Minute)

		// After a rotation the token names a new key.
		s.set(func() { s.keys = []*oidctest.Key{other()} })
		var wg sync.WaitGroup
		for range 100 {
			token := other().Good()
			wg.Go(func() {
				if r := reason(t, v, token); r != "" {
					t.Errorf("refused: %s", r)
				}
			})
		}
		wg.Wait()
		s.fetched(t, 2)

		// The fetch of this minute is used up: no token gets another.
		junk := oidctest.Key{PrivateKey: other().PrivateKey, ID: "junk"}
		s.set(func() { s.keys = []*oidctest.Key{oidctest.Shared()} })
		for range 5 {
			time.Sleep(10 * time.Second)
			assert.Equal(t, reason(t, v, junk.Good()), oidc.Key)
			assert.Equal(t, reason(t, v, oidctest.Shared().Good()), oidc.Key)
		}
		s.fetched(t, 2)
		time.Sleep(10 * time.Second)
		assert.Equal(t, reason(t, v, oidctest.Shared().Good()), "")
		s.fetched(t, 3)
	})
}

func TestJunkSpendsTheMinute(t *testing.T) {
	bubble(t, func(t *testing.T, v *oidc.Verifier, s *server) {
		assert.Equal(t, reason(t, v, oidctest.Shared().Good()), "")
		time.Sleep(time.Minute)
		junk := oidctest.Key{PrivateKey: other().PrivateKey, ID: "junk"}
		assert.Equal(t, reason(t, v, junk.Good()), oidc.Key)
		s.fetched(t, 2)

		s.set(func() { s.keys = append(s.keys, other()) })
		time.Sleep(30 * time.Second)
		assert.Equal(t, reason(t, v, other().Good()), oidc.Key) // the cost that RemoteKeys documents
		time.Sleep(30 * time.Second)
		assert.Equal(t, reason(t, v, other().Good()), "")
		s.fetched(t, 3)
	})
}

func TestJunkCostsNoFetch(t *testing.T) {
	bubble(t, func(t *testing.T, v *oidc.Verifier, s *server) {
		junk := oidctest.Key{PrivateKey: other().PrivateKey, ID: "junk"}
		// An empty cache is filled once. The keys are then newer than the token.
		assert.Equal(t, reason(t, v, junk.Good()), oidc.Key)
		s.fetched(t, 1)
		time.Sleep(2 * time.Minute)
		for _, claims := range []string{
			oidctest.Claims(map[string]any{"email": "stranger@example.com"}),
			oidctest.Claims(map[string]any{"email_verified": false}),
			oidctest.Claims(map[string]any{"aud": "https://elsewhere.example.com"}),
			oidctest.Claims(map[string]any{"iss": "https://elsewhere.example.com"}),
			oidctest.Claims(map[string]any{"exp": time.Now().Unix()}),
		} {
			if reason(t, v, junk.Token(claims)) == "" {
				t.Fatalf("accepted %s", claims)
			}
		}
		s.fetched(t, 1)
	})
}

func TestAnUnknownKeyAndNoWayToAsk(t *testing.T) {
	bubble(t, func(t *testing.T, v *oidc.Verifier, s *server) {
		assert.Equal(t, reason(t, v, oidctest.Shared().Good()), "")
		time.Sleep(time.Minute)
		s.set(func() { s.err = errNetwork })
		for range 3 { // it may be valid: 503, not 401
			assert.Equal(t, reason(t, v, other().Good()), oidc.KeysUnavailable)
		}
		s.fetched(t, 2)
		assert.Equal(t, reason(t, v, oidctest.Shared().Good()), "") // the others are not affected
	})
}

func TestMemoryEndsWithItsToken(t *testing.T) {
	bubble(t, func(t *testing.T, v *oidc.Verifier, s *server) {
		token := oidctest.Shared().Token(oidctest.Claims(map[string]any{"exp": time.Now().Add(10 * time.Minute).Unix()}))
		assert.Equal(t, reason(t, v, token), "")
		time.Sleep(10*time.Minute - 2*time.Second)
		assert.Equal(t, reason(t, v, token), "")
		time.Sleep(time.Second)
		assert.Equal(t, reason(t, v, token), oidc.Expired)
	})
}

func TestMemoryEndsWithItsKeys(t *testing.T) {
	bubble(t, func(t *testing.T, v *oidc.Verifier, s *server) {
		token := oidctest.Shared().Good()
		assert.Equal(t, reason(t, v, token), "")
		time.Sleep(time.Minute)
		s.set(func() { s.keys = []*oidctest.Key{other()} }) // the key is withdrawn
		assert.Equal(t, reason(t, v, token), "")            // not noticed yet
		assert.Equal(t, reason(t, v, other().Good()), "")
		time.Sleep(time.Minute)
		assert.Equal(t, reason(t, v, token), oidc.Key)
	})
}

func TestMemoryIsOfOnePolicy(t *testing.T) {
	t.Parallel()
	source := static(t, oidctest.Shared())
	token := oidctest.Shared().Good()
	assert.Equal(t, reason(t, oidc.New(policy, source), token), "")
	narrower := oidc.Policy{Audiences: policy.Audiences, Callers: []string{"new@project.iam.gserviceaccount.com"}}
	assert.Equal(t, reason(t, oidc.New(narrower, source), token), oidc.Caller)
}

// The allocations of a remembered token show that its signature is not verified
// again: that alone takes 10.
func TestMemoryIsUsed(t *testing.T) {
	v := oidc.New(policy, static(t, oidctest.Shared()))
	header := bearer(oidctest.Shared().Good())
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := v.Verify(context.Background(), header); err != nil {
			t.Error(err)
		}
	})
	assert.Equal(t, allocs, 0)
}

// A token may live longer than its keys are fresh. After that its signature is
// verified each time, until there are fresh keys again.
func TestMemoryEndsWithTheFreshnessOfItsKeys(t *testing.T) {
	key, header := oidctest.Shared(), http.Header(nil)
	synctest.Test(t, func(t *testing.T) {
		s := &server{keys: []*oidctest.Key{key}, life: time.Minute}
		v := oidc.New(policy, oidc.Remote(s.fetch))
		header = bearer(key.Good())
		verify := func() {
			if _, err := v.Verify(context.Background(), header); err != nil {
				t.Error(err)
			}
		}
		verify()
		assert.Equal(t, testing.AllocsPerRun(10, verify), 0)
		s.set(func() { s.err = errNetwork })
		time.Sleep(time.Minute)
		verify() // waits for the fetch, which fails
		if allocs := testing.AllocsPerRun(10, verify); allocs < 10 {
			t.Errorf("%v allocations: it came from memory", allocs)
		}
		s.set(func() { s.err = nil })
		time.Sleep(5 * time.Second)
		verify() // fetches the keys
		synctest.Wait()
		verify()
		assert.Equal(t, testing.AllocsPerRun(10, verify), 0)
	})
}
