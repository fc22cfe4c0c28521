package measure_test

import (
	"context"
	"errors"
	"io/fs"
	"sync/atomic"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"

	"github.com/brillconsulting/handoff/internal/bench/measure"
)

func TestCallsEachOnce(t *testing.T) {
	t.Parallel()
	var calls [100]atomic.Int64
	assert.NoError(t, measure.Calls(t.Context(), len(calls), 7, 1e6, func(i int) error {
		calls[i].Add(1)
		return nil
	}))
	for i := range calls {
		assert.Equal(t, calls[i].Load(), 1)
	}
}

func TestCallsThatFail(t *testing.T) {
	t.Parallel()
	own := errors.New("mine")
	err := measure.Calls(t.Context(), 10, 3, 0, func(i int) error {
		switch i % 5 {
		case 1:
			return own
		case 2:
			return &fs.PathError{Op: "of another type", Err: own}
		}
		return nil
	})
	assert.ErrorContains(t, err, "4 of 10 calls failed")
	assert.Equal(t, errors.Is(err, own), true)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = measure.Calls(ctx, 10, 3, 0, func(int) error { return own })
	assert.Equal(t, errors.Is(err, context.Canceled), true)
}
