package handofftest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/handofftest"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/memstore"
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

type WelcomeEmail struct {
	UserID string `json:"user_id"`
}

func (WelcomeEmail) Kind() string { return "welcome-email" }

// Receipt has a queue and a retry policy of its own: three attempts.
type Receipt struct {
	Order int `json:"order"`
}

func (Receipt) Kind() string { return "receipt" }
func (Receipt) Policy() handoff.Policy {
	return handoff.Policy{Queue: "receipts", Retry: handoff.Retry{MaxAttempts: 3, MinBackoff: time.Minute}}
}

// routerFor returns a router whose handler of WelcomeEmail is fn.
func routerFor(t testing.TB, fn func(context.Context, WelcomeEmail) error, change ...func(*handoff.RouterConfig)) *handoff.Router {
	t.Helper()
	config := handoff.RouterConfig{
		Verifier:    handofftest.Verifier(t),
		Store:       memstore.New(),
		DeadLetters: memstore.NewDeadLetters(),
		Client:      handofftest.NewRecorder(t).Client,
		Logger:      slog.New(slog.DiscardHandler),
	}
	for _, fn := range change {
		fn(&config)
	}
	router, err := handoff.NewRouter(config)
	assert.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, router.Shutdown(context.Background())) })
	handoff.Handle(router, fn)
	return router
}

// failure returns the message that test fails with, or "".
func failure(t *testing.T, test func(t testing.TB)) string {
	t.Helper()
	r := &recordingTB{TB: t}
	var run sync.WaitGroup
	run.Go(func() { test(r) }) // Fatalf ends the goroutine
	run.Wait()
	return r.message
}

// recordingTB is a testing.TB that records a failure.
type recordingTB struct {
	testing.TB

	message string
}

func (r *recordingTB) Fatalf(format string, args ...any) {
	r.message = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// ends maps each way in which a handler can end to its result.
var ends = map[string]struct {
	err     error
	outcome handoff.Outcome
	retry   bool
	settled handofftest.Settled
}{
	"nil":         {nil, handoff.Done, false, handofftest.Completed},
	"drop":        {handoff.Drop(nil), handoff.Dropped, false, handofftest.Completed},
	"snooze":      {handoff.Snooze(time.Hour), handoff.Snoozed, false, handofftest.Completed},
	"retry in":    {handoff.RetryIn(errors.New("boom"), time.Hour), handoff.Retried, false, handofftest.Completed},
	"busy for":    {handoff.BusyFor(time.Hour), handoff.Snoozed, false, handofftest.Completed},
	"permanent":   {handoff.Permanent(errors.New("boom")), handoff.Dead, false, handofftest.Buried},
	"error":       {errors.New("boom"), handoff.Failed, true, handofftest.Counted},
	"retry after": {handoff.RetryAfter(errors.New("boom"), time.Second), handoff.Throttled, true, handofftest.Counted},
	"busy":        {handoff.ErrBusy, handoff.Busy, true, handofftest.Uncounted},
	"interrupted": {handoff.ErrInterrupted, handoff.Interrupted, true, handofftest.Uncounted},
}

func tasksAPI(kit *handofftest.Kit) cloudtaskspb.CloudTasksClient {
	return cloudtaskspb.NewCloudTasksClient(kit.Emulator.Conn())
}

func deleteRequest(name string) *cloudtaskspb.DeleteTaskRequest {
	return &cloudtaskspb.DeleteTaskRequest{Name: name}
}
