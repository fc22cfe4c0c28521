package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	maps0 "maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// The first attempt of a task is a child of the span that enqueued it. The second
// is the root of its own trace, and links to that span.
func TestTraceOfATask(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sdktrace.AlwaysSample())
		tracer := w.provider.Tracer("test")
		handoff.Handle(w.router, func(ctx context.Context, _ order) error {
			_, span := tracer.Start(ctx, "charge")
			defer span.End()
			if handoff.InfoFromContext(ctx).Attempt == 1 {
				return errors.New("the bank is closed")
			}
			return nil
		})

		ctx, checkout := tracer.Start(t.Context(), "checkout")
		receipt, err := w.client.Enqueue(ctx, order{Card: card})
		assert.NoError(t, err)
		checkout.End()
		assert.NoError(t, w.tasks.Wait(t.Context()))
		task := receipt.Name[strings.LastIndexByte(receipt.Name, '/')+1:]

		created, processed, charged := w.named("create_task orders"), w.named("process orders"), w.named("charge")
		assert.Equal(t, []int{len(created), len(processed), len(charged)}, []int{1, 2, 2})
		create, first, second := created[0], processed[0], processed[1]

		assert.Equal(t, create.SpanKind, trace.SpanKindProducer)
		assert.Equal(t, create.Parent, checkout.SpanContext())
		assert.Equal(t, create.Status.Code, codes.Unset)
		assert.Equal(t, attributesOf(create), map[string]any{
			"messaging.system": "gcp_cloud_tasks", "messaging.operation.type": "send", "messaging.operation.name": "create_task",
			"messaging.destination.name": "orders", "messaging.message.id": task, "messaging.message.body.size": int64(len(`{"card":"` + card + `"}`)),
			"handoff.id": receipt.ID, "handoff.kind": "order", "handoff.result": "created",
		})

		assert.Equal(t, first.SpanKind, trace.SpanKindConsumer)
		assert.Equal(t, first.SpanContext.TraceID(), checkout.SpanContext().TraceID())
		assert.Equal(t, first.Parent, create.SpanContext.WithRemote(true))
		assert.Equal(t, len(first.Links), 0)
		assert.Equal(t, first.Status.Code, codes.Error)
		assert.Equal(t, first.Status.Description, "the bank is closed")
		common := map[string]any{
			"messaging.system": "gcp_cloud_tasks", "messaging.operation.type": "process", "messaging.operation.name": "process",
			"messaging.destination.name": "orders", "messaging.message.id": task, "messaging.message.body.size": int64(len(`{"card":"` + card + `"}`)),
			"handoff.id": receipt.ID, "handoff.kind": "order",
		}
		assert.Equal(t, attributesOf(first), with(common, map[string]any{
			"handoff.attempt": int64(1), "handoff.outcome": "failed", "error.type": "failed", "gcp.cloud_tasks.retry_count": int64(0),
		}))

		assert.Equal(t, second.SpanKind, trace.SpanKindConsumer)
		assert.Equal(t, second.Parent.IsValid(), false)
		if second.SpanContext.TraceID() == first.SpanContext.TraceID() {
			t.Error("the retry is in the trace of the first attempt")
		}
		assert.Equal(t, len(second.Links), 1)
		assert.Equal(t, second.Links[0].SpanContext, create.SpanContext.WithRemote(true))
		assert.Equal(t, second.Status.Code, codes.Unset)
		assert.Equal(t, attributesOf(second), with(common, map[string]any{
			"handoff.attempt": int64(2), "handoff.outcome": "done", "gcp.cloud_tasks.retry_count": int64(1), "gcp.cloud_tasks.previous_response": int64(500),
		}))

		for i, charge := range charged {
			assert.Equal(t, charge.Parent, processed[i].SpanContext)
		}
	})
}

func with(maps ...map[string]any) map[string]any {
	all := make(map[string]any)
	for _, m := range maps {
		maps0.Copy(all, m)
	}
	return all
}

// A snoozed task continues in the trace of the delivery that snoozed it.
func TestTraceOfASnooze(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sdktrace.AlwaysSample())
		handoff.Handle(w.router, func(ctx context.Context, _ order) error {
			if handoff.InfoFromContext(ctx).Snoozes == 0 {
				return handoff.Snooze(24 * time.Hour)
			}
			return nil
		})
		_, err := w.client.Enqueue(t.Context(), order{Card: card})
		assert.NoError(t, err)
		assert.NoError(t, w.tasks.Wait(t.Context()))

		created, processed := w.named("create_task orders"), w.named("process orders")
		assert.Equal(t, []int{len(created), len(processed)}, []int{2, 2})
		if created[0].Parent.IsValid() { // the task ran before its enqueue returned
			slices.Reverse(created)
		}
		assert.Equal(t, created[0].Parent.IsValid(), false)
		assert.Equal(t, processed[0].Parent, created[0].SpanContext.WithRemote(true))
		assert.Equal(t, created[1].Parent, processed[0].SpanContext)
		assert.Equal(t, processed[1].Parent, created[1].SpanContext.WithRemote(true))
		assert.Equal(t, attributesOf(processed[0])["handoff.outcome"], any("snoozed"))
	})
}

// A draft belongs to the trace in which it was made, wherever it is sent. It is
// counted when it is sent.
func TestTraceOfADraft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sdktrace.AlwaysSample())
		handoff.Handle(w.router, func(context.Context, order) error { return nil })
		ctx, checkout := w.provider.Tracer("test").Start(t.Context(), "checkout")
		typed, err := w.client.Draft(ctx, order{Card: card})
		assert.NoError(t, err)
		untyped, err := w.client.DraftRequest(ctx, handoff.Request{URL: origin + "/tasks/none", ServiceAccount: account}, handoff.OnQueue("orders"))
		assert.NoError(t, err)
		checkout.End()
		drafted := w.named("draft_task orders")
		assert.Equal(t, len(drafted), 2)
		for _, s := range drafted {
			assert.Equal(t, s.Parent, checkout.SpanContext())
			assert.Equal(t, s.SpanKind, trace.SpanKindProducer)
			assert.Equal(t, attributesOf(s)["handoff.result"], any("drafted"))
		}
		assert.Equal(t, len(w.collect(t)["messaging.client.sent.messages"]), 0)

		for _, err := range w.client.Send(t.Context(), slices.Values([]handoff.Draft{typed, untyped})) {
			assert.NoError(t, err)
		}
		assert.NoError(t, w.tasks.Wait(t.Context()))
		sent := w.named("create_task orders")
		assert.Equal(t, len(sent), 2)
		for i, s := range sent {
			assert.Equal(t, s.SpanKind, trace.SpanKindClient)
			assert.Equal(t, len(s.Links), 1)
			assert.Equal(t, s.Links[0].SpanContext, drafted[i].SpanContext.WithRemote(true))
			assert.Equal(t, attributesOf(s)["messaging.operation.type"], any("send"))
		}
		var parents []trace.SpanContext
		for _, s := range w.named("process orders") {
			if attributesOf(s)["handoff.kind"] == "order" {
				parents = append(parents, s.Parent)
			}
		}
		assert.Equal(t, parents, []trace.SpanContext{drafted[0].SpanContext.WithRemote(true)})
		assert.Equal(t, len(w.collect(t)["messaging.client.sent.messages"]), 2)
	})
}

// Each member of a batch has its own span. The calls have none.
func TestTraceOfABatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sdktrace.AlwaysSample())
		handoff.Handle(w.router, func(context.Context, order) error { return nil })
		ctx, checkout := w.provider.Tracer("test").Start(t.Context(), "checkout")
		for _, err := range handoff.EnqueueBatch(ctx, w.client, slices.Values([]order{{Card: "1"}, {Card: "2"}, {Card: "3"}})) {
			assert.NoError(t, err)
		}
		assert.NoError(t, w.tasks.Wait(t.Context()))

		created := w.named("create_task orders")
		assert.Equal(t, len(created), 3)
		parents := make(map[trace.SpanID]bool)
		for _, s := range created {
			assert.Equal(t, s.Parent, checkout.SpanContext())
			assert.Equal(t, attributesOf(s)["messaging.operation.type"], any("create"))
			parents[s.SpanContext.SpanID()] = true
		}
		for _, s := range w.named("process orders") {
			if !parents[s.Parent.SpanID()] {
				t.Errorf("a delivery has parent %s, which created no task, or is the parent of another", s.Parent.SpanID())
			}
			delete(parents, s.Parent.SpanID())
		}
		assert.Equal(t, len(parents), 0)
	})
}

func TestTraceOfAnEnqueueThatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sdktrace.AlwaysSample())
		_, err := w.client.Enqueue(t.Context(), order{Card: card}, handoff.OnQueue("nowhere"))
		assert.ErrorContains(t, err, "nowhere")
		span := w.named("create_task nowhere")[0]
		assert.Equal(t, span.Status.Code, codes.Error)
		assert.Equal(t, attributesOf(span)["error.type"], any("failed"))
		assert.Equal(t, attributesOf(span)["handoff.result"], any("failed"))
		assert.Equal(t, attributesOf(span)["messaging.message.id"], nil)
	})
}

const (
	traceID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceparent = "00-" + traceID + "-00f067aa0ba902b7-01"
)

// An unverified caller cannot decide what is sampled, nor to which trace a span
// belongs.
func TestTraceOfStrangers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change   func(*http.Request)
		status   int
		name     string
		believed bool
	}{
		"verified":     {func(*http.Request) {}, 200, "process orders", true},
		"unknown kind": {path("/tasks/nothing"), 404, "process orders", true},
		"no token":     {noHeader("Authorization"), 401, "process", false},
		"bad token":    {header("Authorization", "Bearer a.b.c"), 401, "process", false},
		"malformed":    {noHeader("X-CloudTasks-TaskName"), 400, "process", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				for _, root := range []sdktrace.Sampler{sdktrace.NeverSample(), sdktrace.AlwaysSample()} {
					w := newWorld(t, root)
					handoff.Handle(w.router, func(context.Context, order) error { return nil })
					assert.Status(t, w.send(w.request("t", header("Traceparent", traceparent), tc.change)), tc.status)
					spans := w.spans.GetSpans()
					if !tc.believed && root.Description() == sdktrace.NeverSample().Description() {
						assert.Equal(t, len(spans), 0)
						continue
					}
					assert.Equal(t, len(spans), 1)
					assert.Equal(t, spans[0].Name, tc.name)
					assert.Equal(t, spans[0].SpanContext.TraceID().String() == traceID, tc.believed)
					assert.Equal(t, spans[0].Parent.IsValid(), tc.believed)
					assert.Equal(t, len(spans[0].Links), 0)
				}
			})
		})
	}
}

// A span has the status Error if an operator should look at it.
func TestTraceStatus(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err    error
		change func(*http.Request)
		code   codes.Code
		attrs  map[string]any
	}{
		"done":        {nil, nil, codes.Unset, map[string]any{"handoff.outcome": "done", "error.type": nil, "handoff.reason": nil}},
		"dropped":     {handoff.Drop(nil), nil, codes.Unset, map[string]any{"handoff.outcome": "dropped"}},
		"busy":        {handoff.ErrBusy, nil, codes.Unset, map[string]any{"handoff.outcome": "busy", "error.type": nil}},
		"interrupted": {handoff.ErrInterrupted, nil, codes.Unset, map[string]any{"handoff.outcome": "interrupted"}},
		"failed":      {errors.New("no"), nil, codes.Error, map[string]any{"handoff.outcome": "failed", "error.type": "failed"}},
		"throttled":   {handoff.RetryAfter(errors.New("no"), 1), nil, codes.Error, map[string]any{"error.type": "throttled"}},
		"dead":        {handoff.Permanent(errors.New("no")), nil, codes.Error, map[string]any{"error.type": "dead", "handoff.reason": "permanent"}},
		"unknown":     {nil, path("/tasks/xyz"), codes.Error, map[string]any{"error.type": "unknown-kind", "handoff.kind": "_unknown", "handoff.attempt": nil}},
		"no token":    {nil, noHeader("Authorization"), codes.Error, map[string]any{"handoff.reason": "no-token", "handoff.kind": nil, "messaging.message.id": nil}},
		"chunked": {nil, func(r *http.Request) { r.ContentLength = -1 }, codes.Unset, map[string]any{
			"messaging.message.body.size": nil,
		}},
		"foreign": {nil, func(r *http.Request) {
			for name := range r.Header {
				if strings.HasPrefix(name, "Handoff-") {
					r.Header.Del(name)
				}
			}
		}, codes.Unset, map[string]any{"handoff.id": nil, "handoff.kind": "order"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, sdktrace.AlwaysSample())
				handoff.Handle(w.router, func(context.Context, order) error { return tc.err })
				req := w.request("t")
				if tc.change != nil {
					tc.change(req)
				}
				w.send(req)
				spans := w.spans.GetSpans()
				assert.Equal(t, len(spans), 1)
				assert.Equal(t, spans[0].Status.Code, tc.code)
				attrs := attributesOf(spans[0])
				for key, want := range tc.attrs {
					if attrs[key] != want {
						t.Errorf("%s is %v, want %v", key, attrs[key], want)
					}
				}
			})
		})
	}
}

// The span begins before the caller is verified, and also ends when the handler
// makes net/http abort the connection.
func TestTraceOfAnAbort(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sdktrace.AlwaysSample())
		handoff.Handle(w.router, func(context.Context, order) error { panic(http.ErrAbortHandler) })
		func() {
			defer func() { assert.Equal(t, fmt.Sprint(recover()), http.ErrAbortHandler.Error()) }()
			w.send(w.request("t"))
		}()
		spans := w.spans.GetSpans()
		assert.Equal(t, len(spans), 1)
		assert.Equal(t, attributesOf(spans[0])["handoff.outcome"], any("failed"))
		assert.Equal(t, value(t, w, "handoff.in_flight"), 0.0)
		assert.Equal(t, value(t, w, "handoff.deliveries"), 1.0)
	})
}
