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
	"time"

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

// newBooks has Ada, who has 1500 cents.
func newBooks(t *testing.T) books {
	t.Helper()
	b, err := openBooks(t.Context(), filepath.Join(t.TempDir(), "books.db"))
	assert.NoError(t, err)
	t.Cleanup(func() { _ = b.db.Close() })
	assert.NoError(t, b.deposit(t.Context(), "Ada", 1500))
	return b
}

// An order is taken while Cloud Tasks takes no tasks, and sending it again changes
// nothing. Its task is created later, by a sweep of the outbox.
func TestPutOrderWithoutCloudTasks(t *testing.T) {
	t.Parallel()
	tasks := emulator.RunT(t)
	_, err := cloudtaskspb.NewCloudTasksClient(tasks.Conn()).CreateQueue(t.Context(), &cloudtaskspb.CreateQueueRequest{
		Parent: parent, Queue: &cloudtaskspb.Queue{Name: parent + "/queues/orders"},
	})
	assert.NoError(t, err)
	b := newBooks(t)
	s, err := newShop(t.Context(), b, tasks, "https://shop.example.com", log.New(io.Discard, "", 0))
	assert.NoError(t, err)
	t.Cleanup(func() { _ = errors.Join(s.router.Shutdown(context.Background()), s.client.Close()) })
	tasks.SetHandler(s.echo)
	tasks.InjectCall(emulator.CallFault{Method: "BatchCreateTasks", Times: 1, Code: codes.PermissionDenied})
	for range 2 {
		req := httptest.NewRequest(http.MethodPut, "/orders/2", strings.NewReader(`{"customer": "Ada", "cents": 400}`))
		req.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		s.echo.ServeHTTP(rec, req)
		assert.Status(t, rec.Code, http.StatusAccepted)
	}
	for waiting := 1; waiting > 0; { // the row has a pause after it was refused
		s.send(t.Context())
		rows, err := s.outbox.List(t.Context(), 0, 10, false)
		assert.NoError(t, err)
		waiting = len(rows)
		time.Sleep(10 * time.Millisecond)
	}
	assert.NoError(t, tasks.Wait(t.Context()))
	o, err := b.order(t.Context(), "2")
	assert.NoError(t, err)
	assert.Equal(t, o, order{ID: "2", Customer: "Ada", Cents: 400, State: "shipped"})
	cents, err := b.balance(t.Context(), "Ada")
	assert.NoError(t, err)
	assert.Equal(t, cents, 1100)
}
