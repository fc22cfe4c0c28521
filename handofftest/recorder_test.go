package handofftest_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/handofftest"
	"github.com/brillconsulting/handoff/internal/assert"
)

func TestRecorderKeepsWhatWasEnqueued(t *testing.T) {
	t.Parallel()
	recorder := handofftest.NewRecorder(t)
	begin := time.Now()
	receipt, err := recorder.Client.Enqueue(t.Context(), Receipt{Order: 7}, handoff.In(time.Hour), handoff.Header("X-Tenant", "acme"))
	assert.NoError(t, err)
	got := handofftest.RequireEnqueued(t, recorder, func(r Receipt) bool { return r.Order == 7 })
	assert.Equal(t, got.Payload, Receipt{Order: 7})
	assert.Equal(t, []string{got.Queue, got.Name, got.Header.Get("X-Tenant")}, []string{"receipts", receipt.Name, "acme"})
	assert.Equal(t, got.ScheduledAt.Sub(begin).Round(time.Minute), time.Hour)
	handofftest.RequireNone[WelcomeEmail](t, recorder)
	handofftest.RequireNone(t, recorder, func(r Receipt) bool { return r.Order == 8 })
	assert.Equal(t, len(recorder.Tasks()), 1)
	recorder.Reset()
	handofftest.RequireNone[Receipt](t, recorder)
}

func TestRecorderKnowsNames(t *testing.T) {
	t.Parallel()
	recorder := handofftest.NewRecorder(t)
	enqueue := func() bool {
		receipt, err := recorder.Client.Enqueue(t.Context(), Receipt{}, handoff.Key("order-7"))
		assert.NoError(t, err)
		return receipt.Duplicate
	}
	assert.Equal(t, []bool{enqueue(), enqueue()}, []bool{false, true})
	handofftest.RequireExactly[Receipt](t, recorder, 1)
	recorder.Reset()
	assert.Equal(t, enqueue(), false)
}

func TestRecorderTakesBatchesRequestsAndAnyTarget(t *testing.T) {
	t.Parallel()
	recorder := handofftest.NewRecorder(t, func(c *handoff.ClientConfig) {
		c.Target = handoff.AppEngineTarget{Service: "worker", Path: "/tasks"}
		c.CompressOver = 1
	})
	long := strings.Repeat("42", 100) // long enough to be compressed
	for _, err := range handoff.EnqueueBatch(t.Context(), recorder.Client, slices.Values([]WelcomeEmail{{long}, {long}, {long}})) {
		assert.NoError(t, err)
	}
	_, err := recorder.Client.EnqueueRequest(t.Context(), handoff.Request{URL: "https://example.com/hook?x=1"})
	assert.NoError(t, err)
	for _, task := range handofftest.RequireExactly[WelcomeEmail](t, recorder, 3) {
		assert.Equal(t, task.Header.Get("Content-Encoding"), "gzip")
		assert.Equal(t, task.Payload, WelcomeEmail{long})
	}
	assert.Equal(t, len(recorder.Tasks()), 4)
}

// A payload may be a pointer.
func TestRecorderOfPointers(t *testing.T) {
	t.Parallel()
	recorder := handofftest.NewRecorder(t)
	_, err := recorder.Client.Enqueue(t.Context(), &pointer{Receipt{Order: 1}})
	assert.NoError(t, err)
	assert.Equal(t, handofftest.RequireEnqueued[*pointer](t, recorder).Payload.Order, 1)
}

type pointer struct{ Receipt }

func (p *pointer) Kind() string { return "pointer" }

func TestRecorderIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		recorder := handofftest.NewRecorder(t)
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				if _, err := recorder.Client.Enqueue(t.Context(), Receipt{Order: i}); err != nil {
					t.Error(err)
				}
				recorder.Tasks()
			})
		}
		all.Wait()
		handofftest.RequireExactly[Receipt](t, recorder, 20)
	})
}

func TestRecorderFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // at midnight of 2000-01-01
		empty, recorder := handofftest.NewRecorder(t), handofftest.NewRecorder(t)
		for _, n := range []int{7, 8} {
			_, err := recorder.Client.Enqueue(t.Context(), Receipt{Order: n}, handoff.In(time.Hour))
			assert.NoError(t, err)
		}
		_, err := recorder.Client.Enqueue(t.Context(), WelcomeEmail{UserID: strings.Repeat("x", 300)})
		assert.NoError(t, err)
		shown := "; what was enqueued (3):\n" +
			`  welcome-email on queue default, due 2000-01-01T00:00:00Z: {"user_id":"` + strings.Repeat("x", 200-12) + "…\n" +
			`  receipt on queue receipts, due 2000-01-01T01:00:00Z: {"order":7}` + "\n" +
			`  receipt on queue receipts, due 2000-01-01T01:00:00Z: {"order":8}`
		never := func(Receipt) bool { return false }
		for name, row := range map[string]struct {
			test func(testing.TB)
			want string
		}{
			"enqueued, nothing": {
				func(t testing.TB) { handofftest.RequireEnqueued[Receipt](t, empty) },
				"handofftest: got none of receipt, want one; nothing was enqueued",
			},
			"enqueued": {
				func(t testing.TB) { handofftest.RequireEnqueued(t, recorder, never) },
				"handofftest: got none of receipt that matches, want one" + shown,
			},
			"exactly": {
				func(t testing.TB) { handofftest.RequireExactly[Receipt](t, recorder, 3) },
				"handofftest: got 2 of receipt, want 3" + shown,
			},
			"none": {
				func(t testing.TB) {
					handofftest.RequireNone(t, recorder, func(r Receipt) bool { return r.Order == 8 })
				},
				"handofftest: got 1 of receipt that matches, want none" + shown,
			},
			"another shape": {
				func(t testing.TB) { handofftest.RequireEnqueued[misshapen](t, recorder) },
				"handofftest: the recorded payload is not a handofftest_test.misshapen: json: cannot unmarshal string into Go struct field misshapen.user_id of type int",
			},
			"what goes right": {func(t testing.TB) { handofftest.RequireExactly[Receipt](t, recorder, 2) }, ""},
		} {
			if got := failure(t, row.test); got != row.want {
				t.Errorf("%s:\n got %q\nwant %q", name, got, row.want)
			}
		}
		for range 20 {
			_, err := recorder.Client.Enqueue(t.Context(), Receipt{})
			assert.NoError(t, err)
		}
		got := failure(t, func(t testing.TB) { handofftest.RequireNone[Receipt](t, recorder) })
		if !strings.HasSuffix(got, "\n  and 3 more") || strings.Count(got, "\n") != 21 {
			t.Errorf("of 23 tasks it shows %s", got)
		}
	})
}
