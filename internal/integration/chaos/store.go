package main

import (
	"context"
	"errors"

	"github.com/brillconsulting/handoff"
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
		e := runOf(ctx).event(evMarked)
		e.Out = markDone
		if l.Opens != handoff.OpensNothing {
			e.Out = markOpened
		} else if l.Letter != "" {
			e.Out = markBuried
		}
		s.ledger.write(e)
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
		e.Red = letter.Redrives // a redriven task may finish the burial before it
		e.Out = string(letter.Reasons[0])
		s.ledger.write(e)
	}
	return err
}
