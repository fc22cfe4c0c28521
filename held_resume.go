package handoff

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

// This file has what package steps needs of a Held, besides Memo and Keep.

// Resume returns the memo, as [Held.Memo] does, for a package that resumes work in a
// later attempt. It returns an error if memos are not kept, or if the work could never
// continue: without [RouterConfig.Client], or with
// [RouterConfig].DangerouslyRunUnfenced. A router's first call also stores the memo
// again, to detect a Store that keeps no memos before any work is done.
func (h *Held) Resume(ctx context.Context) ([]byte, error) {
	r := h.d.router
	switch {
	case r.config.DangerouslyRunUnfenced:
		return nil, errors.New("handoff: RouterConfig.Store is nil, so nothing is kept for a later attempt")
	case r.config.Client == nil && h.d.stamp.Kind != "":
		return nil, errors.New("handoff: RouterConfig.Client is nil; work that continues in another task needs it")
	}
	memo := h.Memo()
	if !r.keepsMemos.Load() {
		switch err := h.Keep(ctx, memo); {
		case err != nil && ctx.Err() != nil:
			return nil, err
		case err != nil:
			return nil, fmt.Errorf("handoff: RouterConfig.Store does not keep a memo for a later attempt: %w", err)
		}
		r.keepsMemos.Store(true)
	}
	if h.d.stamp.Redrives > 0 && h.d.claim.Attempt == 1 && memo == nil {
		h.d.log(slog.LevelInfo, "handoff: redriven work has no memo of the attempts before it died, so it begins afresh")
	}
	return memo, nil
}

// resumed is what a package keeps with one run of the handler. It has a mutex of its
// own, because marker's mutex is held during a call of the Store.
type resumed struct {
	mu       sync.Mutex
	local    map[any]any
	returned func(err error) error // nil for none
	step     string
}

// Local returns the value of key in this run of the handler. The first call makes
// it. A key should have a type of its own, like a key of [context.WithValue]. If
// middleware calls the handler again, its values are made again.
func (h *Held) Local(key any, first func() any) any {
	s := &h.d.resumed
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.local[key]
	if !ok {
		v = first()
		if s.local == nil {
			s.local = make(map[any]any)
		}
		s.local[key] = v
	}
	return v
}

// Returned sets a function that replaces the error that the handler and its
// middleware return. A later call replaces the function.
func (h *Held) Returned(replace func(err error) error) {
	h.d.resumed.mu.Lock()
	defer h.d.resumed.mu.Unlock()
	h.d.resumed.returned = replace
}

// Step sets [Info].Step, which logs show.
func (h *Held) Step(name string) {
	h.d.resumed.mu.Lock()
	defer h.d.resumed.mu.Unlock()
	h.d.resumed.step = name
}

func (s *resumed) currentStep() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.step
}

// forget removes the values of an earlier run of the handler.
func (s *resumed) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.local, s.returned = nil, nil
}

// replaced returns the error to settle an attempt with, whose handler returned err.
func (s *resumed) replaced(err error) error {
	s.mu.Lock()
	replace := s.returned
	s.mu.Unlock()
	if replace == nil {
		return err
	}
	return guard("Held.Returned", func() error { return replace(err) })
}
