package steps_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/handofftest"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/wire"
	"github.com/brillconsulting/handoff/memstore"
	"github.com/brillconsulting/handoff/steps"
)

// counting counts the round trips to a Store.
type counting struct {
	handoff.Store
	calls atomic.Int64
}

func (s *counting) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	s.calls.Add(1)
	return s.Store.Claim(ctx, l)
}

// Keep keeps nothing, so that the time of a step is that of package steps alone.
func (s *counting) Keep(context.Context, handoff.Lease, []byte) error {
	s.calls.Add(1)
	return nil
}

func (s *counting) Complete(ctx context.Context, l handoff.Lease) error {
	s.calls.Add(1)
	return s.Store.Complete(ctx, l)
}

// three is a handler of three steps that do nothing.
func three(ctx context.Context, _ work) error {
	for _, name := range []string{"download", "convert", "upload"} {
		if _, err := steps.Do(ctx, name, func(context.Context) (string, error) { return "gs://files/" + name, nil }); err != nil {
			return err
		}
	}
	return nil
}

func none(context.Context, work) error { return nil }

// delivering returns a function that delivers one task to a router of its own.
func delivering(t testing.TB, handler func(context.Context, work) error) (store *counting, deliver func()) {
	t.Helper()
	store = &counting{Store: memstore.New()}
	recorder := handofftest.NewRecorder(t)
	router, err := handoff.NewRouter(handoff.RouterConfig{
		DangerouslyAllowUnauthenticated: true, Store: store, DeadLetters: memstore.NewDeadLetters(),
		Client: recorder.Client, Logger: slog.New(slog.DiscardHandler),
	})
	assert.NoError(t, err)
	handoff.Handle(router, handler)
	t.Cleanup(func() { assert.NoError(t, router.Shutdown(context.Background())) })
	_, err = recorder.Client.Enqueue(t.Context(), work{})
	assert.NoError(t, err)
	task := recorder.Tasks()[0].GetHttpRequest()
	n := 0
	return store, func() {
		n++
		req := httptest.NewRequest(http.MethodPost, task.GetUrl(), bytes.NewReader(task.GetBody()))
		for name, value := range task.GetHeaders() {
			req.Header.Set(name, value)
		}
		req.Header.Set(wire.HeaderID, strconv.Itoa(n))
		wire.HTTP.Write(req.Header, wire.Dispatch{Queue: "works", Task: "task", ETA: time.Now()})
		rec := httptest.NewRecorder()
		if router.ServeHTTP(rec, req); rec.Code != http.StatusOK {
			t.Fatalf("status %d", rec.Code)
		}
	}
}

// A step is one round trip; the first of a process is two.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		handler func(context.Context, work) error
		want    int64
	}{{none, 2}, {three, 5}} {
		store, deliver := delivering(t, tc.handler)
		deliver()
		before := store.calls.Load()
		deliver()
		assert.Equal(t, store.calls.Load()-before, tc.want)
	}
}

// BenchmarkThreeSteps delivers tasks with three steps and with none in turns, and
// reports what the steps cost: round trips to the Store, and CPU time of this
// process without that of the Store, which returns from Keep at once. The time is the
// median of the turns' differences.
func BenchmarkThreeSteps(b *testing.B) {
	const turn = 200 // deliveries
	plain, deliverPlain := delivering(b, none)
	stepped, deliverStepped := delivering(b, three)
	deliverPlain()
	deliverStepped()
	trips := func() int64 { return stepped.calls.Load() - plain.calls.Load() }
	before, deliveries := trips(), 0
	var differences []float64
	for b.Loop() {
		took := make(map[bool]time.Duration)
		for _, with := range []bool{false, true} {
			deliver := deliverPlain
			if with {
				deliver = deliverStepped
			}
			began := cpu(b)
			for range turn {
				deliver()
			}
			took[with] = cpu(b) - began
		}
		deliveries += turn
		differences = append(differences, float64((took[true]-took[false]).Nanoseconds())/1000/turn)
	}
	slices.Sort(differences)
	b.ReportMetric(differences[len(differences)/2], "µs-of-CPU/delivery")
	b.ReportMetric(float64(trips()-before)/float64(deliveries), "round-trips/delivery")
	b.ReportMetric(0, "ns/op")
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
