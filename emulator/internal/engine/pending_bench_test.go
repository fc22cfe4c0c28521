package engine_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff/emulator/internal/engine"
)

func newEngine(dispatch func(context.Context, *engine.Dispatch) engine.Outcome) *engine.Engine {
	return engine.New(engine.Config{
		Dispatch:     dispatch,
		TombstoneTTL: 24 * time.Hour,
		TaskTTL:      31 * 24 * time.Hour,
		QueueWindow:  7 * 24 * time.Hour,
		History:      1000,
	})
}

func encoded(tb testing.TB, id string, m *cloudtaskspb.Task) engine.Encoded {
	e, err := engine.Encode(id, m)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func newQueue(tb testing.TB, e *engine.Engine, id string, rate float64) *engine.Queue {
	q, err := e.Create(engine.Definition{Queue: &cloudtaskspb.Queue{
		Name: "projects/p/locations/l/queues/" + id,
		RateLimits: &cloudtaskspb.RateLimits{
			MaxDispatchesPerSecond:  rate,
			MaxBurstSize:            engine.DefaultBurst(rate),
			MaxConcurrentDispatches: engine.DefaultConcurrent,
		},
	}})
	if err != nil {
		tb.Fatal(err)
	}
	return q
}

func bodyTask(n int) *cloudtaskspb.Task {
	return &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
		Url:  "http://127.0.0.1:8080/tasks/welcome-email",
		Body: make([]byte, n),
	}}}
}

// BenchmarkPending puts tasks of 100 bytes into a queue, due at random times of
// the next hour, and reports what one costs in memory and in time.
func BenchmarkPending(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			task := bodyTask(100)
			for b.Loop() {
				e := newEngine(nil)
				q := newQueue(b, e, "q", 500)
				before := heapBytes()
				start := time.Now()
				due := start.Add(time.Hour)
				for i := range n {
					if _, err := q.Add(encoded(b, "", task), due.Add(time.Duration(i*7919%n)*time.Microsecond)); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(time.Since(start).Nanoseconds())/float64(n), "ns/task")
				b.ReportMetric(float64(heapBytes()-before)/float64(n), "heap-B/task")
				e.Close()
			}
		})
	}
}

func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
