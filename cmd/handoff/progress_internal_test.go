package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff/internal/assert"
)

func numbers(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// ignore is for tests that do not look at results.
func ignore(int, string, error) {}

func TestEachTellsOfEveryItem(t *testing.T) {
	t.Parallel()
	var said strings.Builder
	told := make(map[int]string)
	err := each(t.Context(), &console{err: &said}, "counted", numbers(100),
		func(_ context.Context, n int) (string, error) { return strconv.Itoa(n), nil },
		func(n int, result string, err error) { told[n] = result + fmt.Sprint(err) })
	assert.NoError(t, err)
	assert.Equal(t, len(told), 100)
	assert.Equal(t, told[42], "42<nil>")
	assert.Equal(t, said.String(), "100 of 100 counted\n")
}

// TestEachGoesOnAfterFailures: the first of many are told, all are counted.
func TestEachGoesOnAfterFailures(t *testing.T) {
	t.Parallel()
	var said strings.Builder
	err := each(t.Context(), &console{err: &said}, "counted", numbers(40),
		func(_ context.Context, n int) (string, error) {
			if n%2 == 0 {
				return "", fmt.Errorf("%d is even", n)
			}
			return "", nil
		}, ignore)
	assert.ErrorIs(t, err, errToldAlready)
	assert.Equal(t, strings.Count(said.String(), "is even\n"), toldErrors)
	assert.ErrorContains(t, errors.New(said.String()), "\n20 of 40 counted, 20 failed\n")
}

// TestEachFinishesWhatItBegan: an interruption reaches nobody who is at work.
func TestEachFinishesWhatItBegan(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var said strings.Builder
		var begun atomic.Int64
		ended := make(chan error, 1)
		go func() {
			ended <- each(ctx, &console{err: &said}, "counted", numbers(100),
				func(ctx context.Context, _ int) (string, error) {
					begun.Add(1)
					time.Sleep(time.Second)
					return "", ctx.Err()
				}, ignore)
		}()
		time.Sleep(1500 * time.Millisecond) // in the midst of the second lot
		cancel()
		err := <-ended
		assert.Equal(t, begun.Load(), 2*atOnce)
		assert.Equal(t, err.Error(), "16 of 100 counted, 84 not begun; the same command goes on with them")
		assert.Equal(t, said.String(), "")
	})
}

// TestProgressIsShown: as lines every few seconds, or as a bar.
func TestProgressIsShown(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		redraw bool
		want   []string
	}{
		{false, []string{"33 of 80 counted\n73 of 80 counted\n80 of 80 counted\n"}},
		{true, []string{"\r\x1b[K[###                           ] 8 of 80 counted", "\r\x1b[K[##############################] 80 of 80 counted\r\x1b[K80 of 80 counted\n"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			var said strings.Builder
			err := each(t.Context(), &console{err: &said, redraw: tc.redraw}, "counted", numbers(80),
				func(context.Context, int) (string, error) { time.Sleep(1100 * time.Millisecond); return "", nil }, ignore)
			assert.NoError(t, err)
			assert.ErrorContains(t, errors.New(said.String()), tc.want...)
		})
	}
}

func TestWaitingIsShown(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		redraw bool
		want   string
	}{
		{false, "purging, 5s so far\npurging, 10s so far\n"},
		{true, strings.Repeat("\r\x1b[Kpurging, %ds so far", 12) + "\r\x1b[K"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var said strings.Builder
			failed := errors.New("failed")
			err := (&console{err: &said, redraw: tc.redraw}).during("purging", func() error {
				time.Sleep(12*time.Second + time.Millisecond)
				return failed
			})
			assert.ErrorIs(t, err, failed)
			want := tc.want
			if tc.redraw {
				seconds := make([]any, 12)
				for i := range seconds {
					seconds[i] = i + 1
				}
				want = fmt.Sprintf(want, seconds...)
			}
			assert.Equal(t, said.String(), want)
		})
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		asks, yes bool
		typed     string
		code      int
	}{
		{true, false, "y\n", 0},
		{true, false, "YES\n", 0},
		{true, false, "yes", 0},
		{true, false, "n\n", 1},
		{true, false, "\n", 1},
		{true, false, "", 1},
		{true, false, "yy\n", 1},
		{true, true, "n\n", 0},
		{false, true, "", 0},
		{false, false, "y\n", 2},
	} {
		var said strings.Builder
		con := &console{in: strings.NewReader(tc.typed), err: &said, asks: tc.asks}
		err := con.confirm(t.Context(), yesFlag{tc.yes}, "Delete %s?", "it")
		code := 0
		if err != nil {
			code = con.fail(t.Context(), err)
		}
		if code != tc.code {
			t.Errorf("%+v: exit code %d", tc, code)
		}
		assert.Equal(t, strings.Contains(said.String(), "Delete it? [y/N] "), tc.asks && !tc.yes)
	}
}
