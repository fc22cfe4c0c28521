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

func (s *server) breaks() { s.err = errNetwork }

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
	if got := s.count(); got != want {
		t.Fatalf("%d fetches, want %d", got, want)
	}
}

func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fetches
}

// bubble runs test in virtual time. The keys of its Verifier come from a server
// that responds after a second, with keys that are fresh for an hour.
func bubble(t *testing.T, test func(t *testing.T, v *oidc.Verifier, s *server)) {
	t.Parallel()
	oidctest.Shared() // made before any clock is virtual
	other()
	synctest.Test(t, func(t *testing.T) {
		s := &server{keys: []*oidctest.Key{oidctest.Shared()}, life: time.Hour, takes: time.Second}
		source := oidc.Remote(s.fetch)
		source.Use()
		defer source.Stop()
		test(t, oidc.New(policy, source), s)
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

// junk is a token whose claims are good and whose key nobody has.
func junk() string {
	key := oidctest.Key{PrivateKey: other().PrivateKey, ID: "junk"}
	return key.Good()
}

// TestAnUnknownKeyIsRefusedAtOnce: waiting for the fetch would tell by the time of
// the response that it was made.
func TestAnUnknownKeyIsRefusedAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, v *oidc.Verifier, s *server) {
		assert.Equal(t, reason(t, v, oidctest.Shared().Good()), "")
		time.Sleep(time.Minute)

		s.set(func() { s.keys = []*oidctest.Key{oidctest.Shared(), other()} }) // not published ahead
		assert.Equal(t, waited(func() {
			for range 100 {
				assert.Equal(t, reason(t, v, other().Good()), oidc.Key)
			}
			assert.Equal(t, reason(t, v, oidctest.Shared().Good()), "") // others are not affected
		}), 0)
		time.Sleep(s.takes)
		synctest.Wait()
		assert.Equal(t, reason(t, v, other().Good()), "")
		s.fetched(t, 2)
	})
}

func TestAnUnknownKeyIsLookedUpOnceAMinute(t *testing.T) {
	bubble(t, func(t *testing.T, v *oidc.Verifier, s *server) {
		assert.Equal(t, reason(t, v, oidctest.Shared().Good()), "")
		time.Sleep(time.Minute)
		assert.Equal(t, reason(t, v, junk()), oidc.Key)
		for range 5 {
			time.Sleep(10 * time.Second)
			assert.Equal(t, reason(t, v, junk()), oidc.Key)
		}
		s.fetched(t, 2)
		time.Sleep(10 * time.Second)
		assert.Equal(t, reason(t, v, junk()), oidc.Key)
		synctest.Wait()
		s.fetched(t, 3)
	})
}

func TestJunkSpendsTheMinute(t *testing.T) {
	bubble(t, func(t *testing.T, v *oidc.Verifier, s *server) {
		assert.Equal(t, reason(t, v, oidctest.Shared().Good()), "")
		time.Sleep(time.Minute)
		assert.Equal(t, reason(t, v, junk()), oidc.Key)
		time.Sleep(30 * time.Second)
		s.fetched(t, 2)

		s.set(func() { s.keys = append(s.keys, other()) })
		assert.Equal(t, reason(t, v, other().Good()), oidc.Key) // the cost that RemoteKeys documents
		time.Sleep(30*time.Second - time.Nanosecond)
		assert.Equal(t, reason(t, v, other().Good()), oidc.Key)
		s.fetched(t, 2)
		time.Sleep(time.Nanosecond)
		assert.Equal(t, reason(t, v, other().Good()), oidc.Key) // causes the fetch
		time.Sleep(s.takes)
		synctest.Wait()
		assert.Equal(t, reason(t, v, other().Good()), "")
		s.fetched(t, 3)
	})
}

func TestJunkCostsNoFetch(t *testing.T) {
	bubble(t, func(t *testing.T, v *oidc.Verifier, s *server) {
		key := oidctest.Key{PrivateKey: other().PrivateKey, ID: "junk"}
		// An empty cache is filled once. The keys are then newer than the token.
		assert.Equal(t, reason(t, v, junk()), oidc.Key)
		s.fetched(t, 1)
		time.Sleep(2 * time.Minute)
		for _, claims := range []string{
			oidctest.Claims(map[string]any{"email_verified": false}),
			oidctest.Claims(map[string]any{"aud": "https://elsewhere.example.com"}),
			oidctest.Claims(map[string]any{"iss": "https://elsewhere.example.com"}),
			oidctest.Claims(map[string]any{"exp": time.Now().Unix()}),
		} {
			if reason(t, v, key.Token(claims)) == "" {
				t.Fatalf("accepted %s", claims)
			}
		}
		synctest.Wait()
		s.fetched(t, 1)
	})
}

// TestAStrangerDoesNotLearnWhoIsListed sends forged tokens that differ in their
// account only. The response, its time and the fetches that it causes must not
// depend on it, whatever the state of the keys.
func TestAStrangerDoesNotLearnWhoIsListed(t *testing.T) {
	type seen struct {
		reason  string
		after   time.Duration
		fetches int
	}
	for name, state := range map[string]func(s *server, v *oidc.Verifier){
		"no keys yet":          func(*server, *oidc.Verifier) {},
		"no keys to be had":    func(s *server, _ *oidc.Verifier) { s.set(s.breaks) },
		"keys":                 func(_ *server, v *oidc.Verifier) { warm(v); time.Sleep(2 * time.Minute) },
		"keys near their end":  func(_ *server, v *oidc.Verifier) { warm(v); time.Sleep(55 * time.Minute) },
		"keys past their end":  func(_ *server, v *oidc.Verifier) { warm(v); time.Sleep(2 * time.Hour) },
		"keys, and no network": func(s *server, v *oidc.Verifier) { warm(v); s.set(s.breaks); time.Sleep(2 * time.Minute) },
		"stale keys":           func(s *server, v *oidc.Verifier) { warm(v); s.set(s.breaks); time.Sleep(2 * time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			var all []seen
			for _, email := range []string{oidctest.Email, "stranger@example.com"} {
				oidctest.Shared()
				other()
				synctest.Test(t, func(t *testing.T) {
					s := &server{keys: []*oidctest.Key{oidctest.Shared()}, life: time.Hour, takes: time.Second}
					v := oidc.New(policy, oidc.Remote(s.fetch))
					state(s, v)
					synctest.Wait()
					before := s.count()
					key := oidctest.Key{PrivateKey: other().PrivateKey, ID: "junk"}
					forged := key.Token(oidctest.Claims(map[string]any{"email": email}))
					var got seen
					got.after = waited(func() { got.reason = reason(t, v, forged) })
					time.Sleep(time.Minute)
					got.fetches = s.count() - before
					all = append(all, got)
				})
			}
			assert.Equal(t, all[0], all[1])
		})
	}
}

func warm(v *oidc.Verifier) {
	_, _ = v.Verify(context.Background(), bearer(oidctest.Shared().Good()))
}

// TestAnUnknownKeyAndNoWayToAsk: 503 would tell a valid token from a forged one no
// better, and would slow the queue whenever a stranger asks.
func TestAnUnknownKeyAndNoWayToAsk(t *testing.T) {
	bubble(t, func(t *testing.T, v *oidc.Verifier, s *server) {
		assert.Equal(t, reason(t, v, oidctest.Shared().Good()), "")
		time.Sleep(time.Minute)
		s.set(func() { s.err = errNetwork })
		for range 3 {
			assert.Equal(t, reason(t, v, other().Good()), oidc.Key)
			time.Sleep(time.Second)
		}
		s.fetched(t, 2)
		assert.Equal(t, reason(t, v, oidctest.Shared().Good()), "") // the others are not affected
	})
}

// TestStopEndsTheFetch: the last user of a source ends the fetch in progress, and
// who waits for it learns that there are no keys.
func TestStopEndsTheFetch(t *testing.T) {
	t.Parallel()
	oidctest.Shared()
	synctest.Test(t, func(t *testing.T) {
		token := oidctest.Shared().Good()
		s := &server{keys: []*oidctest.Key{oidctest.Shared()}, life: time.Hour, takes: time.Second}
		source := oidc.Remote(s.fetch)
		v := oidc.New(policy, source)
		source.Use()
		source.Use()
		waits := make(chan string)
		go func() { waits <- reason(t, v, token) }()
		synctest.Wait()
		source.Stop() // the other user still needs the keys
		assert.Equal(t, waited(source.Stop), 0)
		assert.Equal(t, <-waits, oidc.KeysUnavailable)
		s.fetched(t, 1)

		source.Use() // a fetch that was stopped did not fail: the next begins at once
		assert.Equal(t, reason(t, v, token), "")
		s.fetched(t, 2)
		source.Stop()
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
		assert.Equal(t, reason(t, v, other().Good()), oidc.Key)
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
