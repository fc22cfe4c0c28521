package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
	"google.golang.org/grpc/codes"
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

// Run returns an error unless the books are right at the end.
func TestRun(t *testing.T) {
	t.Parallel()
	out := new(bytes.Buffer)
	assert.NoError(t, run(t.Context(), out))
	for text, times := range map[string]int{
		"charge   200 done":        3, // one for each order, one of them after its redrive
		"charge   205 dead":        1,
		"ship     500 failed":      1,
		"ship     200 done":        3,
		"receipt  204 dropped":     1,
		"dead: charge: ":           1,
		"shipped\n":                3,
		"Ada has 3000 cents left":  1,
		"Bob has 600 cents left":   1,
		"/redrive: 202 Accepted\n": 1,
	} {
		if got := strings.Count(out.String(), text); got != times {
			t.Errorf("%q is there %d times, not %d:\n%s", text, got, times, out)
		}
	}
}

// newBooks has one order, of 1000 cents, by Ada, who has 1500.
func newBooks(t *testing.T) books {
	t.Helper()
	db, err := openBooks(t.Context(), filepath.Join(t.TempDir(), "books.db"))
	assert.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	b := books{db}
	assert.NoError(t, b.deposit(t.Context(), "Ada", 1500))
	assert.NoError(t, b.place(t.Context(), order{ID: "1", Customer: "Ada", Cents: 1000}))
	return b
}

func (b books) check(t *testing.T, state string, cents int) {
	t.Helper()
	o, err := b.order(t.Context(), "1")
	assert.NoError(t, err)
	assert.Equal(t, o.State, state)
	got, err := b.balance(t.Context(), "Ada")
	assert.NoError(t, err)
	assert.Equal(t, got, cents)
}

// The fencing token and the order's state cover what the fence cannot promise.
func TestCharge(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		tokens []int64 // of the runs, in the order of their commits
		last   error   // of the last one
		state  string
		cents  int
	}{
		"one run":                              {[]int64{10}, nil, "paid", 500},
		"died before it could say so":          {[]int64{10, 11}, nil, "paid", 500},
		"stood still while another took over":  {[]int64{11, 10}, errStale, "paid", 500},
		"its own transaction, repeated":        {[]int64{10, 10}, errStale, "paid", 500},
		"without a token, as outside a Router": {[]int64{0}, errStale, "placed", 1500},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBooks(t)
			var err error
			for _, token := range tc.tokens {
				err = b.charge(t.Context(), "1", token)
			}
			if tc.last == nil {
				assert.NoError(t, err)
			} else {
				assert.ErrorIs(t, err, tc.last)
			}
			b.check(t, tc.state, tc.cents)
		})
	}
}

// A declined charge changes nothing, and can be made later.
func TestChargeDeclined(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	assert.NoError(t, b.deposit(t.Context(), "Ada", -600))
	assert.ErrorIs(t, b.charge(t.Context(), "1", 10), errDeclined)
	b.check(t, "placed", 900)
	assert.NoError(t, b.deposit(t.Context(), "Ada", 100))
	assert.NoError(t, b.charge(t.Context(), "1", 11))
	b.check(t, "paid", 0)
}

// An order whose task could not be created can be sent again, and stays one
// order.
func TestPutOrderAgain(t *testing.T) {
	t.Parallel()
	tasks := emulator.RunT(t)
	_, err := cloudtaskspb.NewCloudTasksClient(tasks.Conn()).CreateQueue(t.Context(), &cloudtaskspb.CreateQueueRequest{
		Parent: parent, Queue: &cloudtaskspb.Queue{Name: parent + "/queues/orders"},
	})
	assert.NoError(t, err)
	b := newBooks(t)
	s, err := newShop(t.Context(), b.db, tasks, "https://shop.example.com", log.New(io.Discard, "", 0))
	assert.NoError(t, err)
	t.Cleanup(func() { _ = errors.Join(s.router.Shutdown(context.Background()), s.client.Close()) })
	tasks.SetHandler(s.echo)
	tasks.InjectCall(emulator.CallFault{Method: "CreateTask", Times: 1, Code: codes.PermissionDenied})
	for _, want := range []int{http.StatusServiceUnavailable, http.StatusAccepted, http.StatusAccepted} {
		req := httptest.NewRequest(http.MethodPut, "/orders/2", strings.NewReader(`{"customer": "Ada", "cents": 400}`))
		req.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		s.echo.ServeHTTP(rec, req)
		assert.Status(t, rec.Code, want)
	}
	assert.NoError(t, tasks.Wait(t.Context()))
	o, err := b.order(t.Context(), "2")
	assert.NoError(t, err)
	assert.Equal(t, o, order{ID: "2", Customer: "Ada", Cents: 400, State: "shipped"})
	cents, err := b.balance(t.Context(), "Ada")
	assert.NoError(t, err)
	assert.Equal(t, cents, 1100)
}
