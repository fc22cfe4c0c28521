package trial_test

import (
	"errors"
	"testing"

	"github.com/brillconsulting/handoff"
	trial "github.com/brillconsulting/handoff/examples/testing"
	"github.com/brillconsulting/handoff/handofftest"
	"github.com/brillconsulting/handoff/memstore"
)

// What does Cloud Tasks see of the service? One delivery by net/http/httptest,
// with a signed token, exact headers and the whole pipeline.
func TestRouter(t *testing.T) {
	t.Parallel()
	mailer := &outbox{}
	letters := memstore.NewDeadLetters()
	router, err := trial.NewRouter(handoff.RouterConfig{
		Verifier:    handofftest.Verifier(t),
		Store:       memstore.New(),
		DeadLetters: letters,
	}, mailer)
	if err != nil {
		t.Fatal(err)
	}
	defer router.Shutdown(t.Context())

	again := handofftest.Deliver(t, router, trial.Ending{UserID: "42"}, handofftest.Again())
	if again.Outcome != handoff.Duplicate || len(mailer.sent) != 1 {
		t.Errorf("a second delivery: %s, and %d mails", again.Outcome, len(mailer.sent))
	}
	if eve := handofftest.Deliver(t, router, trial.Ending{}, handofftest.Caller("eve@example.com")); eve.Status != 403 {
		t.Errorf("a stranger got status %d", eve.Status)
	}
	mailer.fail = errors.New("the mail server is busy")
	last := handofftest.Deliver(t, router, trial.Ending{UserID: "43"}, handofftest.Attempt(3))
	if last.Outcome != handoff.Dead || last.Reason != handoff.ReasonExhausted {
		t.Errorf("the last attempt: %s, %s", last.Outcome, last.Reason)
	}
	if counts, err := letters.CountByKind(t.Context()); counts["trial-ending"] != 1 {
		t.Errorf("dead letters: %v, %v", counts, err)
	}
}
