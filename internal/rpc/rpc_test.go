package rpc_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/api/option"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/rpc"
)

func TestOptions(t *testing.T) {
	given := []option.ClientOption{option.WithEndpoint("elsewhere:1")}
	for _, tc := range []struct {
		name  string
		host  string
		given []option.ClientOption
		want  int // options
	}{
		{name: "neither"},
		{name: "the variable alone", host: "localhost:8123", want: 3},
		{name: "options alone", given: given, want: 1},
		{name: "options win", host: "localhost:8123", given: given, want: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv(rpc.EmulatorVariable, tc.host)
			opts, err := rpc.Options(tc.given)
			assert.NoError(t, err)
			assert.Equal(t, len(opts), tc.want)
		})
	}
}

func TestOptionsRefusesAURL(t *testing.T) {
	t.Setenv(rpc.EmulatorVariable, "http://localhost:8123")
	_, err := rpc.Options(nil)
	assert.ErrorContains(t, err, rpc.EmulatorVariable, "http://localhost:8123", "without a scheme")
}

func TestOptionsRefusesAHostWithoutPort(t *testing.T) {
	for _, host := range []string{"localhost", "localhost:", "::1", "8123"} {
		t.Setenv(rpc.EmulatorVariable, host)
		_, err := rpc.Options(nil)
		assert.ErrorContains(t, err, rpc.EmulatorVariable, host, "localhost:8123")
	}
	t.Setenv(rpc.EmulatorVariable, "[::1]:8123")
	_, err := rpc.Options(nil)
	assert.NoError(t, err)
}

func TestWithTimeout(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ given, want time.Duration }{
		"none":    {0, rpc.Timeout},
		"longer":  {time.Hour, rpc.Timeout},
		"shorter": {time.Second, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if tc.given > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tc.given)
					defer cancel()
				}
				ctx, cancel := rpc.WithTimeout(ctx)
				defer cancel()
				end, ok := ctx.Deadline()
				assert.Equal(t, ok, true)
				assert.Equal(t, time.Until(end), tc.want)
			})
		})
	}
}
