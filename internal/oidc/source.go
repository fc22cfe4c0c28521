package oidc

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// The rhythm of fetching keys.
const (
	// FetchTimeout bounds a fetch, and with it the life of the goroutine that
	// does it.
	FetchTimeout = 10 * time.Second

	// MaxStale is how long keys serve beyond their freshness while they
	// cannot be fetched: a key that Google withdrew must not live for ever
	// in a worker that lost its way to Google.
	MaxStale = 24 * time.Hour

	retryPause   = 5 * time.Second // between a fetch that failed and the next
	unknownPause = time.Minute     // between two fetches for an unknown key
	minLife      = time.Minute     // however short the answer says it is fresh
	maxLife      = 24 * time.Hour  // however long
)

// Source has the keys of the moment. It fetches them when somebody asks, in a
// goroutine that lives as long as the fetch, FetchTimeout at most; nothing
// runs in between.
type Source struct {
	fetch func(context.Context) (*Keys, time.Duration, error)
	now   atomic.Pointer[snapshot]

	mu      sync.Mutex
	flight  *flight   // the fetch that runs, if one does
	err     error     // how the last fetch failed, if it did
	retry   time.Time // no fetch before then
	unknown time.Time // when the last fetch for an unknown key began
}

// snapshot is the outcome of the last good fetch.
type snapshot struct {
	keys  *Keys
	sent  time.Time // when they were asked for
	ahead time.Time // from then on they are refreshed in the background
	fresh time.Time // until then they are fresh
}

// flight is one fetch, and done is closed when it has landed.
type flight struct {
	done chan struct{}
	err  error
}

// far is the end of what is good for ever.
var far = time.Unix(1<<40, 0)

// Static returns a source of keys that never change.
func Static(k *Keys) *Source {
	s := new(Source)
	s.now.Store(&snapshot{keys: k, sent: far, ahead: far, fresh: far})
	return s
}

// Remote returns a source of keys that fetch gets, with the time that they are
// fresh for.
func Remote(fetch func(context.Context) (*Keys, time.Duration, error)) *Source {
	return &Source{fetch: fetch}
}

// current returns the keys to use at the time t. It waits only if there are
// none, or none that are fresh and the last fetch did not fail; then ctx
// bounds the wait.
func (s *Source) current(ctx context.Context, t time.Time) (*snapshot, error) {
	if now := s.now.Load(); now != nil && t.Before(now.ahead) {
		return now, nil
	}
	s.mu.Lock()
	now, failing, f := s.now.Load(), s.err, s.flight
	if f == nil && !t.Before(s.retry) && (now == nil || !t.Before(now.ahead)) {
		f = s.launch(t)
	}
	s.mu.Unlock()
	switch {
	case now != nil && t.Before(now.fresh):
		return now, nil
	case now != nil && failing != nil && t.Before(now.fresh.Add(MaxStale)):
		return now, nil
	case f == nil:
		return nil, failing
	}
	if err := f.wait(ctx); err != nil && ctx.Err() != nil {
		return nil, err
	}
	if now = s.now.Load(); now != nil && t.Before(now.fresh.Add(MaxStale)) {
		return now, nil
	}
	return nil, f.err
}

// beyond returns keys that are newer than old, which lack a key that a request
// of the time t asked for. It fetches at most once a minute, and not at all if
// old was fetched for this very request. An error means that the keys could
// not be fetched: nothing can be said of the request.
func (s *Source) beyond(ctx context.Context, old *snapshot, t time.Time) (*snapshot, error) {
	s.mu.Lock()
	now, failing, f := s.now.Load(), s.err, s.flight
	if now.keys != old.keys || !now.sent.Before(t) {
		s.mu.Unlock()
		return now, nil
	}
	if f == nil && !t.Before(s.retry) && t.Sub(s.unknown) >= unknownPause {
		s.unknown = t
		f = s.launch(t)
	}
	s.mu.Unlock()
	if f == nil {
		return now, failing
	}
	err := f.wait(ctx)
	return s.now.Load(), err
}

// launch starts a fetch. The caller holds s.mu and has seen that none runs.
func (s *Source) launch(t time.Time) *flight {
	f := &flight{done: make(chan struct{})}
	s.flight = f
	go func() {
		// Not the context of the request that happened to ask first: if that
		// one is cancelled, the others still want their keys.
		ctx, cancel := context.WithTimeout(context.Background(), FetchTimeout)
		defer cancel()
		keys, life, err := s.fetch(ctx)
		s.land(f, t, keys, life, err)
	}()
	return f
}

func (s *Source) land(f *flight, sent time.Time, keys *Keys, life time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flight, s.err, f.err = nil, err, err
	if err != nil {
		s.retry = time.Now().Add(retryPause)
	} else {
		if last := s.now.Load(); last != nil && last.keys.same(keys) {
			keys = last.keys // what was verified with them stays verified
		}
		life = min(max(life, minLife), maxLife)
		s.now.Store(&snapshot{keys: keys, sent: sent, ahead: sent.Add(life / 10 * 9), fresh: sent.Add(life)})
	}
	close(f.done)
}

var errWaiting = errors.New("the delivery ended before the keys came")

func (f *flight) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return errWaiting
	}
}
