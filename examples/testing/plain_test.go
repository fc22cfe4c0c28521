package trial_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/brillconsulting/handoff"
	trial "github.com/brillconsulting/handoff/examples/testing"
)

// What does the handler do, and which outcome does its error ask for? It is a
// plain function.
func TestRemind(t *testing.T) {
	t.Parallel()
	mailer := &outbox{}
	if err := trial.Remind(mailer)(t.Context(), trial.Ending{UserID: "42"}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(mailer.sent, []string{"42"}) {
		t.Errorf("sent to %v", mailer.sent)
	}
	for _, row := range []struct {
		fail error
		want handoff.Outcome
	}{
		{trial.ErrNoUser, handoff.Dropped},
		{errors.New("the mail server is busy"), handoff.Failed},
	} {
		err := trial.Remind(&outbox{fail: row.fail})(t.Context(), trial.Ending{UserID: "42"})
		if got := handoff.OutcomeOf(err); got != row.want {
			t.Errorf("%v comes to %s, want %s", row.fail, got, row.want)
		}
	}
}
