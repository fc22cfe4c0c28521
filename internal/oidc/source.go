package oidc

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// How often, and for how long, keys are fetched and used.
const (
	// FetchTimeout is the longest a fetch, and its goroutine, may take.
	FetchTimeout = 10 * time.Second

	// MaxStale is how long keys are used after they are no longer fresh, while
	// fetching fails. The limit keeps a key that Google withdrew from being
	// accepted for ever by a worker that cannot reach Google.
	MaxStale = 24 * time.Hour

	retryPause   = 5 * time.Second // after a failed fetch
	unknownPause = time.Minute     // between two fetches for an unknown key
	minLife      = time.Minute     // even if the response says less
	maxLife      = 24 * time.Hour  // even if the response says more
)

// Source holds the current keys. It fetches them on demand, in a goroutine that
// ends with the fetch; nothing runs between fetches. It is safe for concurrent
// use.
type Source struct {
	fetch func(context.Context) (*Keys, time.Duration, error)
	now   atomic.Pointer[snapshot]

	mu      sync.Mutex
	users   int       // calls of Use without their Stop
	flight  *flight   // the fetch in progress, or nil
	err     error     // of the last fetch
	retry   time.Time // no fetch before then
	unknown time.Time // when the last fetch for an unknown key began
}

// snapshot is the result of the last successful fetch.
type snapshot struct {
	keys  *Keys
	sent  time.Time // when the fetch began
	ahead time.Time // refreshed in the background after this time
	fresh time.Time // fresh until this time
}

// flight is one fetch. done is closed when it has ended.
type flight struct {
	done    chan struct{}
	cancel  context.CancelFunc
	stopped bool // by Stop; guarded by Source.mu
	err     error
}

// far is later than any time in use.
var far = time.Unix(1<<40, 0)

// Static returns a source of keys that never change.
func Static(k *Keys) *Source {
	s := new(Source)
	s.now.Store(&snapshot{keys: k, sent: far, ahead: far, fresh: far})
	return s
}

// Remote returns a source that calls fetch for its keys and for how long they
// are fresh.
func Remote(fetch func(context.Context) (*Keys, time.Duration, error)) *Source {
	return &Source{fetch: fetch}
}

// current returns the keys to use at time t. It waits for a fetch only if there
// are no keys yet, or if they are not fresh and the last fetch succeeded; ctx
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

// seek starts a fetch, because a request received at time t names a key that is
// not among the current ones. It does not wait. It fetches at most once a minute,
// and not at all if the current keys were fetched for the same request.
func (s *Source) seek(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now.Load().sent.Before(t) && s.flight == nil && !t.Before(s.retry) && t.Sub(s.unknown) >= unknownPause {
		s.unknown = t
		s.launch(t)
	}
}

// held returns the keys as they are, without waiting, or nil if there are none. It
// starts a fetch of the first keys in the background.
func (s *Source) held(t time.Time) *snapshot {
	now := s.now.Load()
	if now != nil {
		return now
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now.Load() == nil && s.flight == nil && !t.Before(s.retry) {
		s.launch(t)
	}
	return nil
}

// launch starts a fetch. The caller holds s.mu and has checked that none is in
// progress.
func (s *Source) launch(t time.Time) *flight {
	// Not the context of the first request: when it is cancelled, the other
	// requests still need the keys.
	ctx, cancel := context.WithTimeout(context.Background(), FetchTimeout)
	f := &flight{done: make(chan struct{}), cancel: cancel}
	s.flight = f
	go func() {
		defer cancel()
		keys, life, err := s.fetch(ctx)
		s.land(f, t, keys, life, err)
	}()
	return f
}

func (s *Source) land(f *flight, sent time.Time, keys *Keys, life time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flight, f.err = nil, err
	switch {
	case err == nil:
		if last := s.now.Load(); last != nil && last.keys.same(keys) {
			keys = last.keys // so that remembered tokens stay valid
		}
		life = min(max(life, minLife), maxLife)
		s.now.Store(&snapshot{keys: keys, sent: sent, ahead: sent.Add(life / 10 * 9), fresh: sent.Add(life)})
		s.err = nil
	case !f.stopped:
		s.err, s.retry = err, time.Now().Add(retryPause)
	}
	close(f.done)
}

// Use adds a user of the source, which calls Stop when it no longer needs keys.
func (s *Source) Use() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users++
}

// Stop removes a user. When the last one has left, Stop cancels the fetch in
// progress and waits for it to end.
func (s *Source) Stop() {
	s.mu.Lock()
	s.users--
	f := s.flight
	if s.users > 0 || f == nil {
		s.mu.Unlock()
		return
	}
	f.stopped = true
	s.mu.Unlock()
	f.cancel()
	<-f.done
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
