package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/redis/go-redis/v9"
)

// recordingStore writes what the Store answered into the ledger.
type recordingStore struct {
	handoff.Store
	ledger *ledger
}

func (s recordingStore) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	claim, err := s.Store.Claim(ctx, l)
	if err == nil && claim.Status == handoff.ClaimAcquired {
		e := runOf(ctx).event(evClaimed)
		e.Tok, e.Att = claim.Token, claim.Attempt
		s.ledger.write(e)
	}
	return claim, err
}

func (s recordingStore) Complete(ctx context.Context, l handoff.Lease) error {
	err := s.Store.Complete(ctx, l)
	switch {
	case err == nil:
		s.ledger.write(runOf(ctx).event(evMarked))
	case !errors.Is(err, handoff.ErrLeaseLost):
		s.ledger.write(runOf(ctx).event(evUnmarked))
	}
	return err
}

func (s recordingStore) Release(ctx context.Context, l handoff.Lease, counted bool) error {
	err := s.Store.Release(ctx, l, counted)
	if err == nil && counted {
		s.ledger.write(runOf(ctx).event(evCounted))
	}
	return err
}

// recordingLetters does the same for dead letters.
type recordingLetters struct {
	handoff.DeadLetterStore
	ledger *ledger
}

func (s recordingLetters) Put(ctx context.Context, letter handoff.DeadLetter) error {
	err := s.DeadLetterStore.Put(ctx, letter)
	if err == nil {
		e := runOf(ctx).event(evLetter)
		e.Out = string(letter.Reasons[0])
		s.ledger.write(e)
	}
	return err
}

// Sabotages: a fence with one of its rules left out. The checker must notice
// each, or it proves nothing.
const (
	sabotageNone      = ""
	sabotageNoOwner   = "no-owner-check"
	sabotageNoRenewal = "no-renewal"
	sabotageMarkFirst = "mark-before-success"
	sabotageForget    = "release-forgets"
)

var sabotages = []string{sabotageNoOwner, sabotageNoRenewal, sabotageMarkFirst, sabotageForget}

func sabotage(how string, store handoff.Store, rdb *redis.Client) handoff.Store {
	switch how {
	case sabotageNone:
		return store
	case sabotageNoOwner:
		return noOwnerCheck{store, rdb}
	case sabotageNoRenewal:
		return noRenewal{store}
	case sabotageMarkFirst:
		return markFirst{store}
	case sabotageForget:
		return forgetful{store}
	}
	panic(fmt.Sprintf("chaos: no such sabotage: %q", how))
}

// noOwnerCheck acts in the name of whoever holds the lease now.
type noOwnerCheck struct {
	handoff.Store
	rdb *redis.Client
}

func (s noOwnerCheck) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	claim, err := s.Store.Claim(ctx, l)
	if err == nil && claim.Status == handoff.ClaimAcquired {
		err = s.rdb.Set(ctx, "sabotage:"+l.Key, l.Owner, time.Hour).Err()
	}
	return claim, err
}

func (s noOwnerCheck) Complete(ctx context.Context, l handoff.Lease) error {
	return s.Store.Complete(ctx, s.holder(ctx, l))
}

func (s noOwnerCheck) Release(ctx context.Context, l handoff.Lease, counted bool) error {
	return s.Store.Release(ctx, s.holder(ctx, l), counted)
}

func (s noOwnerCheck) holder(ctx context.Context, l handoff.Lease) handoff.Lease {
	if owner, err := s.rdb.Get(ctx, "sabotage:"+l.Key).Result(); err == nil {
		l.Owner = owner
	}
	return l
}

// noRenewal says that it renewed.
type noRenewal struct{ handoff.Store }

func (noRenewal) Renew(_ context.Context, leases []handoff.Lease) ([]bool, error) {
	kept := make([]bool, len(leases))
	for i := range kept {
		kept[i] = true
	}
	return kept, nil
}

// markFirst marks work as done when it begins, as the common SETNX fence does.
type markFirst struct{ handoff.Store }

func (s markFirst) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	claim, err := s.Store.Claim(ctx, l)
	if err == nil && claim.Status == handoff.ClaimAcquired {
		err = s.Complete(ctx, l)
	}
	return claim, err
}

func (s markFirst) Release(context.Context, handoff.Lease, bool) error { return nil }

// forgetful gives every attempt back.
type forgetful struct{ handoff.Store }

func (s forgetful) Release(ctx context.Context, l handoff.Lease, _ bool) error {
	return s.Store.Release(ctx, l, false)
}
