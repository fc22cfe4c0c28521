package trial_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff"
	trial "github.com/brillconsulting/handoff/examples/testing"
	"github.com/brillconsulting/handoff/handofftest"
)

// What happens with Cloud Tasks in between? Two weeks in a bubble: the mail
// server is down at first, and one response is lost.
func TestTwoWeeks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var attempts []time.Duration
		mailer := &outbox{}
		kit := handofftest.New(t)
		handoff.Handle(kit.Router, func(ctx context.Context, e trial.Ending) error {
			attempts = append(attempts, time.Since(began))
			if mailer.fail = nil; len(attempts) == 1 {
				mailer.fail = errors.New("the mail server is down")
			}
			return trial.Remind(mailer)(ctx, e)
		})
		if err := trial.Start(t.Context(), kit.Client, "42"); err != nil {
			t.Fatal(err)
		}
		kit.Drain(handofftest.StopAfter(1))
		kit.LoseResponses(1)
		rest := kit.Drain()

		const due = 13 * 24 * time.Hour
		if len(attempts) != 2 || attempts[0] != due || attempts[1] != due+time.Hour {
			t.Errorf("attempts after %v", attempts)
		}
		if len(rest) != 2 || rest[0].Outcome != handoff.Done || rest[1].Outcome != handoff.Duplicate {
			t.Errorf("then %v", rest)
		}
		if len(mailer.sent) != 1 {
			t.Errorf("%d mails", len(mailer.sent))
		}
	})
}
