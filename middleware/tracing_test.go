package middleware_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/labstack/echo/v4"
	"go.opentelemetry.io/otel/trace"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/middleware"
)

// Without an SDK the trace that the task carries still reaches the handler,
// and middleware that asks for the Delivery, once the caller is verified. What spans
// there are is tested in internal/integration/telemetry.
func TestTracingWithoutSDK(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change   func(*http.Request)
		skip     bool
		status   int
		believed bool
	}{
		"verified":    {func(*http.Request) {}, false, 200, true},
		"skipped":     {func(*http.Request) {}, true, 200, false},
		"no token":    {noHeader("Authorization"), false, 401, false},
		"malformed":   {noHeader("X-CloudTasks-QueueName"), false, 400, false},
		"no trace":    {noHeader("Traceparent"), false, 200, false},
		"not a trace": {header("Traceparent", "00-1-2-3"), false, 200, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var inside, after string
			outer := func(next echo.HandlerFunc) echo.HandlerFunc {
				return func(c echo.Context) error {
					err := next(c)
					d, _ := handoff.DeliveryFrom(c)
					after = trace.SpanContextFromContext(d.Context()).TraceID().String()
					return err
				}
			}
			b := newBench(t, outer, middleware.TracingWithConfig(middleware.TracingConfig{
				Skipper: func(echo.Context) bool { return tc.skip },
			}))
			handoff.Handle(b.router, func(ctx context.Context, _ order) error {
				inside = trace.SpanContextFromContext(ctx).TraceID().String()
				return nil
			})
			assert.Status(t, b.send(b.request("t", header("Traceparent", traceparent), tc.change)), tc.status)
			assert.Equal(t, after == traceID, tc.believed)
			assert.Equal(t, inside == traceID, tc.believed)
		})
	}
}
