package handofftest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/handofftest"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/steps"
)

// importRows downloads and then imports five rows.
func importRows(ctx context.Context, _ WelcomeEmail) error {
	rows, err := steps.Do(ctx, "download", func(context.Context) (int, error) { return 5, nil })
	if err != nil {
		return err
	}
	return steps.Each(ctx, "rows", func(ctx context.Context, c *steps.Cursor[int]) error {
		for row := c.At() + 1; row <= rows; row++ {
			if err := c.Save(ctx, row); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestPieces(t *testing.T) {
	t.Parallel()
	for n, want := range map[int][]string{
		1: {
			`["download"]  continued`, `["download"] rows 1 continued`, `["download"] rows 2 continued`, `["download"] rows 3 continued`,
			`["download"] rows 4 continued`, `["download"] rows 5 continued`, `["download" "rows"]  done`,
		},
		3: {`["download"] rows 2 continued`, `["download"] rows 5 continued`, `["download" "rows"]  done`},
		9: {`["download" "rows"]  done`},
	} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				kit := handofftest.New(t)
				handoff.Handle(kit.Router, importRows)
				_, err := kit.Client.Enqueue(t.Context(), WelcomeEmail{})
				assert.NoError(t, err)
				var got []string
				for _, p := range kit.Pieces(n) {
					got = append(got, strings.Join(strings.Fields(fmt.Sprintf("%q %s %s %s", p.Done, p.Step, string(p.Position), p.Outcome)), " "))
				}
				for i := range want {
					want[i] = strings.Join(strings.Fields(want[i]), " ")
				}
				assert.Equal(t, got, want)
				// Without Pieces there is time enough.
				_, err = kit.Client.Enqueue(t.Context(), WelcomeEmail{})
				assert.NoError(t, err)
				assert.Equal(t, len(kit.Drain()), 1)
			})
		})
	}
}

func TestPieceString(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kit := handofftest.New(t)
		handoff.Handle(kit.Router, func(ctx context.Context, e WelcomeEmail) error {
			return handoff.Permanent(errors.Join(errors.New("boom"), steps.Each(ctx, "rows", func(ctx context.Context, c *steps.Cursor[int]) error {
				return c.Save(ctx, 7)
			})))
		})
		_, err := kit.Client.Enqueue(t.Context(), WelcomeEmail{})
		assert.NoError(t, err)
		text := fmt.Sprint(kit.Pieces(1)[0])
		for _, part := range []string{"attempt 1 dead", `steps done: []`, "rows at 7", "boom"} {
			assert.Equal(t, strings.Contains(text, part), true)
		}
	})
}

func TestPiecesOfNothing(t *testing.T) {
	t.Parallel()
	rec := &recordingTB{TB: t}
	kit := handofftest.New(rec)
	done := make(chan struct{})
	go func() {
		defer close(done)
		kit.Pieces(0)
	}()
	<-done
	assert.Equal(t, strings.Contains(rec.message, "Pieces(0)"), true)
}
