package middleware_test

import (
	"context"
	"net/http"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/middleware"
)

// Without an SDK, the trace of a verified task still reaches the handler and the
// other observers. Tests of the spans are in internal/integration/telemetry.
func TestTracingWithoutSDK(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change   func(*http.Request)
		status   int
		believed bool
	}{
		"verified":    {func(*http.Request) {}, 200, true},
		"no token":    {noHeader("Authorization"), 401, false},
		"malformed":   {noHeader("X-CloudTasks-QueueName"), 400, false},
		"no trace":    {noHeader("Traceparent"), 200, false},
		"not a trace": {header("Traceparent", "00-1-2-3"), 200, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var inside, after string
			before := handoff.Observer{End: func(ctx context.Context, _ handoff.Delivery) {
				after = trace.SpanContextFromContext(ctx).TraceID().String()
			}}
			b := setup(t, before, must(middleware.Tracing(middleware.TracingConfig{})))
			handoff.Handle(b.Router, func(ctx context.Context, _ order) error {
				inside = trace.SpanContextFromContext(ctx).TraceID().String()
				return nil
			})
			assert.Status(t, b.send(b.request("t", header("Traceparent", traceparent), tc.change)), tc.status)
			assert.Equal(t, after == traceID, tc.believed)
			assert.Equal(t, inside == traceID, tc.believed)
		})
	}
}
