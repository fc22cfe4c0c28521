package simulate_test

import (
	"context"
	"fmt"
	"sync"

	"github.com/brillconsulting/handoff"
)

// sabotage is a way to break the fence on purpose, to show that the checker
// notices.
type sabotage string

const (
	sound           sabotage = ""
	noOwnerCheck    sabotage = "no owner check"
	noRenewal       sabotage = "no renewal"
	markFirst       sabotage = "mark before success"
	forgetCounters  sabotage = "counters forgotten"
	giveBack        sabotage = "every attempt given back"
	freshGeneration sabotage = "each generation treated as new work"
	forgetDone      sabotage = "completions forgotten"
	sameToken       sabotage = "one token"
	ignoreLeases    sabotage = "leases ignored"
	dropLetters     sabotage = "letters dropped"
	ackBusy         sabotage = "success returned while busy"
	freshCopies     sabotage = "copies forget the attempts before them"
)

var sabotages = []sabotage{
	noOwnerCheck, noRenewal, markFirst, forgetCounters, giveBack, freshGeneration, forgetDone, sameToken, ignoreLeases, dropLetters, ackBusy, freshCopies,
}

// Sabotages of work in steps.
const (
	keepsForAll  sabotage = "memo written without the owner"
	snoozesMemo  sabotage = "memo lost on a snooze"
	neverStopped sabotage = "attempts reset without progress"
)

var stepSabotages = []sabotage{keepsForAll, snoozesMemo, neverStopped}

func (s sabotage) wrap(store handoff.Store) handoff.Store {
	if s == sound {
		return store
	}
	return &saboteur{Store: store, how: s, owners: map[string]string{}}
}

type saboteur struct {
	handoff.Store

	how    sabotage
	mu     sync.Mutex
	owners map[string]string
}

func (s *saboteur) lease(l handoff.Lease) handoff.Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.how {
	case noOwnerCheck:
		if owner := s.owners[l.Key]; owner != "" {
			l.Owner = owner
		}
	case freshGeneration:
		l.Key = fmt.Sprintf("%.20s%02d", l.Key, l.Generation)
	}
	return l
}

func (s *saboteur) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	if s.how == freshGeneration {
		l = s.lease(l)
	}
	if s.how == ignoreLeases {
		s.mu.Lock()
		if owner := s.owners[l.Key]; owner != "" && owner != l.Owner {
			held := l
			held.Owner = owner
			_ = s.Store.Release(ctx, held, true)
		}
		s.mu.Unlock()
	}
	claim, err := s.Store.Claim(ctx, l)
	if err != nil || claim.Status != handoff.ClaimAcquired {
		return claim, err
	}
	s.mu.Lock()
	s.owners[l.Key] = l.Owner
	s.mu.Unlock()
	switch s.how {
	case markFirst:
		_ = s.Store.Complete(ctx, l)
	case forgetCounters:
		claim.Attempt, claim.Crashed = 1, false
	case sameToken:
		claim.Token = 1
	}
	return claim, nil
}

func (s *saboteur) Renew(ctx context.Context, leases []handoff.Lease) ([]bool, error) {
	held := make([]bool, len(leases))
	for i := range held {
		held[i] = true
	}
	switch s.how {
	case noRenewal, ignoreLeases:
		return held, nil
	case noOwnerCheck:
		_, _ = s.Store.Renew(ctx, leases)
		return held, nil
	case freshGeneration:
		moved := make([]handoff.Lease, len(leases))
		for i, l := range leases {
			moved[i] = s.lease(l)
		}
		leases = moved
	}
	return s.Store.Renew(ctx, leases)
}

func (s *saboteur) Complete(ctx context.Context, l handoff.Lease) error {
	if s.how == forgetDone && l.Opens == handoff.OpensNothing && l.Letter == "" {
		return s.Store.Release(ctx, l, true)
	}
	if s.how == snoozesMemo && l.Opens != handoff.OpensNothing {
		_ = s.Store.Keep(ctx, l, nil)
	}
	if s.how == freshCopies && l.Opens > handoff.OpensNext {
		l.Opens = handoff.OpensNext
	}
	err := s.Store.Complete(ctx, s.lease(l))
	if s.how == markFirst {
		return nil
	}
	return err
}

func (s *saboteur) Release(ctx context.Context, l handoff.Lease, counted bool) error {
	if s.how == markFirst {
		return nil
	}
	return s.Store.Release(ctx, s.lease(l), counted && s.how != giveBack && s.how != neverStopped)
}

func (s *saboteur) End(ctx context.Context, l handoff.Lease, note []byte) error {
	return s.Store.End(ctx, s.lease(l), note)
}

func (s *saboteur) Keep(ctx context.Context, l handoff.Lease, memo []byte) error {
	if s.how == keepsForAll {
		s.mu.Lock()
		l.Owner = s.owners[l.Key]
		s.mu.Unlock()
	}
	return s.Store.Keep(ctx, s.lease(l), memo)
}
