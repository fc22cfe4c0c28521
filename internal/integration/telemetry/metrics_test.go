package telemetry_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// value returns the value of an instrument that has a single series.
func value(t *testing.T, w *world, name string) float64 {
	t.Helper()
	points := w.collect(t)[name]
	assert.Equal(t, len(points), 1)
	return points[0].value
}

func TestMetricsOfATask(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sdktrace.NeverSample())
		handoff.Handle(w.router, func(ctx context.Context, _ order) error {
			time.Sleep(3 * time.Second)
			if handoff.InfoFromContext(ctx).Attempt == 1 {
				return errors.New("the bank is closed")
			}
			return nil
		})
		_, err := w.client.Enqueue(t.Context(), order{Card: card}, handoff.In(time.Minute))
		assert.NoError(t, err)
		assert.NoError(t, w.tasks.Wait(t.Context()))

		const conventions = "messaging.operation.name=process,messaging.system=gcp_cloud_tasks"
		all := w.collect(t)
		assert.Equal(t, all["handoff.deliveries"], []point{
			{"handoff.kind=order,handoff.outcome=done", 1, 0},
			{"handoff.kind=order,handoff.outcome=failed", 1, 0},
		})
		assert.Equal(t, all["messaging.process.duration"], []point{
			{"error.type=failed,handoff.kind=order,handoff.outcome=failed," + conventions, 3, 1},
			{"handoff.kind=order,handoff.outcome=done," + conventions, 3, 1},
		})
		assert.Equal(t, all["handoff.lag"], []point{{"handoff.kind=order", 0, 2}})
		// A delay of a minute, an attempt, a second of backoff, an attempt.
		assert.Equal(t, all["handoff.enqueue_to_done"], []point{{"handoff.kind=order", 60 + 3 + 1 + 3, 1}})
		assert.Equal(t, all["handoff.in_flight"], []point{{"", 0, 0}})
		const sent = "handoff.kind=order,handoff.result=created,messaging.operation.name=create_task,messaging.operation.type=send,messaging.system=gcp_cloud_tasks"
		assert.Equal(t, all["messaging.client.sent.messages"], []point{{sent, 1, 0}})
		assert.Equal(t, all["messaging.client.operation.duration"][0].labels, sent)
		for _, name := range []string{"handoff.rejections", "handoff.leases_lost", "handoff.dead_letters"} {
			if len(all[name]) != 0 {
				t.Errorf("%s has %v", name, all[name])
			}
		}
	})
}

func TestMetricsOfDeliveries(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err    error
		change func(*http.Request)
		want   map[string]string // labels of the only series; "" if there must be none
	}{
		"lag": {want: map[string]string{"handoff.lag": "handoff.kind=order", "handoff.rejections": ""}},
		"no schedule": {change: noHeader("X-CloudTasks-TaskETA"), want: map[string]string{
			"handoff.lag": "", "messaging.process.duration": "handoff.kind=order,handoff.outcome=done,messaging.operation.name=process,messaging.system=gcp_cloud_tasks",
		}},
		"not enqueued by handoff": {change: noHeader("Handoff-Enqueued"), want: map[string]string{"handoff.enqueue_to_done": ""}},
		"failed":                  {err: errors.New("no"), want: map[string]string{"handoff.enqueue_to_done": ""}},
		"dead": {err: handoff.Permanent(nil), want: map[string]string{
			"handoff.dead_letters": "handoff.kind=order,handoff.reason=permanent", "handoff.deliveries": "handoff.kind=order,handoff.outcome=dead",
		}},
		"expired": {change: header("Handoff-Expires", "1"), want: map[string]string{
			"handoff.dead_letters": "handoff.kind=order,handoff.reason=expired", "messaging.process.duration": "", "handoff.lag": "", "handoff.rejections": "",
		}},
		"expired, of an unknown kind": {change: func(r *http.Request) { path("/tasks/zzz")(r); r.Header.Set("Handoff-Expires", "1") }, want: map[string]string{
			"handoff.dead_letters": "handoff.kind=_unknown,handoff.reason=expired",
		}},
		"no token": {change: noHeader("Authorization"), want: map[string]string{
			"handoff.rejections": "handoff.kind=,handoff.reason=no-token", "handoff.deliveries": "handoff.kind=,handoff.outcome=unauthenticated", "messaging.process.duration": "",
		}},
		"malformed":    {change: noHeader("X-CloudTasks-TaskName"), want: map[string]string{"handoff.rejections": "handoff.kind=,handoff.reason=malformed"}},
		"unknown kind": {change: path("/tasks/zzz"), want: map[string]string{"handoff.rejections": "handoff.kind=_unknown,handoff.reason=unknown-kind"}},
		"too large":    {change: func(r *http.Request) { r.ContentLength = 1 << 20 }, want: map[string]string{"handoff.rejections": "handoff.kind=order,handoff.reason=too-large"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, sdktrace.NeverSample())
				handoff.Handle(w.router, func(context.Context, order) error { return tc.err })
				req := w.request("t")
				if tc.change != nil {
					tc.change(req)
				}
				w.send(req)
				all := w.collect(t)
				for instrument, labels := range tc.want {
					var got string
					if len(all[instrument]) > 0 {
						got = all[instrument][0].labels
					}
					if got != labels || len(all[instrument]) > 1 {
						t.Errorf("%s has %v, want %q", instrument, all[instrument], labels)
					}
				}
			})
		})
	}
}

func TestMetricsOfTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sdktrace.NeverSample())
		handoff.Handle(w.router, func(context.Context, order) error { return nil })
		req := w.request("t") // 2 s late, enqueued 3 s ago
		assert.Status(t, w.send(req), 200)
		assert.Equal(t, value(t, w, "handoff.lag"), 2.0)
		assert.Equal(t, value(t, w, "handoff.enqueue_to_done"), 3.0)

		// Another machine's clock may be ahead of ours.
		early := w.request("t2", header("X-CloudTasks-TaskETA", fmt.Sprint(time.Now().Add(time.Minute).Unix())),
			header("Handoff-Enqueued", fmt.Sprint(time.Now().Add(time.Minute).UnixMilli())))
		assert.Status(t, w.send(early), 200)
		assert.Equal(t, value(t, w, "handoff.lag"), 2.0)
		assert.Equal(t, value(t, w, "handoff.enqueue_to_done"), 3.0)
	})
}

// hold delivers requests whose handlers return when finish is called.
func (w *world) hold(t *testing.T, requests ...*http.Request) (finish func()) {
	t.Helper()
	end := make(chan struct{})
	handoff.Handle(w.router, func(context.Context, order) error { <-end; return nil })
	statuses := make(chan int)
	for _, req := range requests {
		go func() { statuses <- w.send(req) }()
	}
	synctest.Wait()
	return func() {
		close(end)
		for range requests {
			assert.Status(t, <-statuses, 200)
		}
	}
}

func TestMetricsInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sdktrace.NeverSample())
		finish := w.hold(t, w.request("1"), w.request("2"), w.request("3"))
		assert.Equal(t, value(t, w, "handoff.in_flight"), 3.0)
		finish()
		assert.Equal(t, value(t, w, "handoff.in_flight"), 0.0)
	})
}

// Several routers of a process may each have Metrics with the same MeterProvider.
func TestMetricsOfTwoRouters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sdktrace.NeverSample())
		finish := w.hold(t, w.request("1"))
		w.router = w.newRouter(t, nil)
		finishMore := w.hold(t, w.request("2"))
		assert.Equal(t, value(t, w, "handoff.in_flight"), 2.0)
		finish()
		finishMore()
		assert.Equal(t, value(t, w, "handoff.in_flight"), 0.0)
		assert.Equal(t, value(t, w, "handoff.deliveries"), 2.0)
	})
}

// A lost lease is counted, even if the work could still be marked as done.
func TestMetricsOfLostLeases(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		ignores bool // the handler ignores its context
		outcome string
	}{
		"given up":     {false, "lost"},
		"done in time": {true, "done"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, sdktrace.NeverSample())
				w.store.lose = true
				handoff.Handle(w.router, func(ctx context.Context, _ order) error {
					<-ctx.Done()
					assert.ErrorIs(t, context.Cause(ctx), handoff.ErrLeaseLost)
					if tc.ignores {
						return nil
					}
					return ctx.Err()
				})
				w.send(w.request("t"))
				all := w.collect(t)
				assert.Equal(t, all["handoff.leases_lost"], []point{{"handoff.kind=order", 1, 0}})
				assert.Equal(t, all["handoff.deliveries"], []point{{"handoff.kind=order,handoff.outcome=" + tc.outcome, 1, 0}})
			})
		})
	}
}

func TestMetricsOfEnqueues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sdktrace.NeverSample())
		handoff.Handle(w.router, func(context.Context, order) error { return nil })
		ctx := t.Context()
		for range 2 {
			_, err := w.client.Enqueue(ctx, order{Card: card}, handoff.Key("order-1"))
			assert.NoError(t, err)
		}
		_, err := w.client.Enqueue(ctx, order{}, handoff.OnQueue("nowhere"))
		assert.ErrorContains(t, err, "nowhere")
		over, cancel := context.WithCancel(ctx)
		cancel()
		_, err = w.client.Enqueue(over, order{})
		assert.ErrorIs(t, err, handoff.ErrNotSent)
		_, err = w.client.EnqueueRequest(ctx, handoff.Request{URL: "https://example.com/hook"}, handoff.OnQueue("nowhere"))
		assert.ErrorContains(t, err, "nowhere")

		const conventions = ",messaging.operation.name=create_task,messaging.operation.type=send,messaging.system=gcp_cloud_tasks"
		assert.Equal(t, w.collect(t)["messaging.client.sent.messages"], []point{
			{"error.type=failed,handoff.kind=,handoff.result=failed" + conventions, 1, 0},
			{"error.type=failed,handoff.kind=order,handoff.result=failed" + conventions, 1, 0},
			{"error.type=not-sent,handoff.kind=order,handoff.result=not-sent" + conventions, 1, 0},
			{"handoff.kind=order,handoff.result=created" + conventions, 1, 0},
			{"handoff.kind=order,handoff.result=duplicate" + conventions, 1, 0},
		})
	})
}

// No request, verified or not, can increase the number of series without bound.
func TestLabelsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sdktrace.NeverSample())
		handoff.Handle(w.router, func(context.Context, order) error { return errors.New(rand.Text()) })
		flood := func() {
			noise := rand.Text()
			for _, change := range []func(*http.Request){
				path("/tasks/" + noise),
				path("/tasks/" + strings.ToLower(noise)),
				header("X-CloudTasks-QueueName", noise),
				header("X-CloudTasks-TaskRetryCount", noise),
				header("Authorization", "Bearer "+noise),
				header("Content-Encoding", noise),
				func(r *http.Request) { r.Method = noise },
				func(r *http.Request) { path("/tasks/" + noise)(r); r.Header.Set("Handoff-Expires", "1") },
				func(r *http.Request) { path("/tasks/" + noise)(r); r.Header.Del("Authorization") },
			} {
				w.send(w.request(rand.Text(), change))
			}
		}
		series := func() (n int) {
			for _, points := range w.collect(t) {
				n += len(points)
				for _, p := range points {
					noSecrets(t, w, p.labels)
				}
			}
			return n
		}
		flood()
		first := series()
		for range 100 {
			flood()
		}
		assert.Equal(t, series(), first)
	})
}

func TestNothingSensitiveIsTraced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sdktrace.AlwaysSample())
		handoff.Handle(w.router, func(context.Context, order) error { return errors.New("no") })
		_, err := w.client.Enqueue(t.Context(), order{Card: card}, handoff.Key(card))
		assert.NoError(t, err)
		_, err = w.client.Enqueue(t.Context(), order{Card: card}, handoff.OnQueue("nowhere"), handoff.Header("X-Secret", card))
		assert.ErrorContains(t, err, "nowhere")
		assert.NoError(t, w.tasks.Wait(t.Context()))
		for _, change := range []func(*http.Request){
			header("Authorization", "Bearer "+w.token[:len(w.token)-1]),
			header("Authorization", "Basic "+card),
			header("Handoff-Key", card+"!"),
			header("X-CloudTasks-TaskName", card+"!"),
			header("Content-Encoding", card),
			header("Cookie", card),
		} {
			w.send(w.request("t", change))
		}
		wrong := w.request("t2")
		wrong.Body = readCloser{strings.NewReader(`{"card":["` + card + `"]}`)}
		w.send(wrong)

		spans := w.spans.GetSpans()
		if len(spans) < 10 {
			t.Fatalf("only %d spans", len(spans))
		}
		for _, s := range spans {
			noSecrets(t, w, fmt.Sprint(s.Name, s.Status.Description, attributesOf(s), s.Events, s.SpanContext.TraceState()))
		}
	})
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

func noSecrets(t *testing.T, w *world, text string) {
	t.Helper()
	signature := w.token[strings.LastIndexByte(w.token, '.')+1:]
	for name, secret := range map[string]string{"payload": card, "token": w.token[:40], "signature": signature[:40]} {
		if strings.Contains(text, secret) {
			t.Errorf("the %s is visible: %s", name, text)
		}
	}
}
