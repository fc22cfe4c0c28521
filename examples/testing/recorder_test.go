package trial_test

import (
	"testing"
	"time"

	trial "github.com/brillconsulting/handoff/examples/testing"
	"github.com/brillconsulting/handoff/handofftest"
)

// What does the producer enqueue? A client that records tasks and sends none
// shows it.
func TestStart(t *testing.T) {
	t.Parallel()
	recorder := handofftest.NewRecorder(t)
	for _, user := range []string{"42", "42", "43"} { // 42 clicks twice
		if err := trial.Start(t.Context(), recorder.Client, user); err != nil {
			t.Fatal(err)
		}
	}
	tasks := handofftest.RequireExactly[trial.Ending](t, recorder, 2)
	if in := time.Until(tasks[0].ScheduledAt).Round(time.Hour); in != 13*24*time.Hour {
		t.Errorf("the reminder is due in %s", in)
	}
}
