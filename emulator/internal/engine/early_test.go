package engine_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff/emulator/internal/engine"
)

// TestNeverEarly: no task is dispatched before its time. A task that is overtaken or
// removed delays no other.
func TestNeverEarly(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	early := 0
	e := engine.New(engine.Config{
		Dispatch: func(_ context.Context, a *engine.Dispatch) engine.Outcome {
			if time.Now().Before(a.Schedule) {
				mu.Lock()
				defer mu.Unlock()
				early++
			}
			return engine.Outcome{Status: 200}
		},
		TaskTTL: time.Hour,
	})
	defer e.Close()
	q := newQueue(t, e, "q", 500)
	begun := time.Now()
	for i := range 60 {
		// Every third task is due before all earlier ones.
		due := begun.Add(time.Duration(20+i-6*(i%3)) * 1700 * time.Microsecond)
		task, err := q.Add(encoded(t, "", new(cloudtaskspb.Task)), due)
		if err != nil {
			t.Fatal(err)
		}
		if i%5 == 0 {
			_ = q.Remove(task.ID) // unless it is done already
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := e.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if early > 0 {
		t.Errorf("%d tasks went out early", early)
	}
	if left := q.Stats().Tasks; left != 0 {
		t.Errorf("%d tasks are left", left)
	}
}
