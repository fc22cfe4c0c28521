package handoff_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/memstore"
)

// deliverStored dispatches a task that a server holds.
func deliverStored(router *handoff.Router, task *cloudtaskspb.Task) int {
	r := task.GetHttpRequest()
	parts := strings.Split(task.Name, "/")
	req := httptest.NewRequest(http.MethodPost, r.GetUrl(), strings.NewReader(string(r.GetBody())))
	for name, value := range r.GetHeaders() {
		req.Header.Set(name, value)
	}
	req.Header.Set("X-CloudTasks-QueueName", parts[5])
	req.Header.Set("X-CloudTasks-TaskName", parts[7])
	req.Header.Set("X-CloudTasks-TaskRetryCount", "3")
	req.Header.Set("User-Agent", "Google-Cloud-Tasks")
	req.Header.Set("X-Forwarded-For", "10.0.0.1")
	rec := httptest.NewRecorder()
	router.ServeHTTP(rec, req)
	return rec.Code
}

// A snoozed task's copy is the same work for later: only its time, its
// generation and its name are new.
func TestSnoozeCopiesTheTask(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := new(taskServer)
		client := server.client(t, func(c *handoff.ClientConfig) { c.CompressOver = 100 })
		router, err := handoff.NewRouter(handoff.RouterConfig{
			DangerouslyAllowUnauthenticated: true,
			Store:                           memstore.New(),
			DeadLetters:                     memstore.NewDeadLetters(),
			Client:                          client,
		})
		assert.NoError(t, err)
		defer func() { assert.NoError(t, router.Shutdown(context.Background())) }()
		handoff.Handle(router, func(_ context.Context, o order) error {
			if len(o.ID) < 1000 {
				t.Errorf("the payload came as %q", o.ID)
			}
			return handoff.Snooze(6 * time.Hour)
		})
		_, err = client.Enqueue(t.Context(), order{ID: strings.Repeat("1", 1000)}, handoff.In(10*time.Hour),
			handoff.Header("X-Tenant", "acme"), handoff.Header("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
		assert.NoError(t, err)
		time.Sleep(10*time.Hour + time.Minute)

		original := server.only(t)
		assert.Equal(t, deliverStored(router, original), http.StatusAccepted)
		tasks := server.taken()
		assert.Equal(t, len(tasks), 2)
		twin := tasks[1]
		assert.Equal(t, twin.GetScheduleTime().AsTime().Equal(time.Now().Add(6*time.Hour)), true)
		assert.Equal(t, twin.GetHttpRequest().GetUrl(), original.GetHttpRequest().GetUrl())
		assert.Equal(t, twin.GetHttpRequest().GetBody(), original.GetHttpRequest().GetBody())
		assert.Equal(t, twin.GetRetryConfig().String(), original.GetRetryConfig().String())
		assert.Equal(t, twin.GetDispatchDeadline().AsDuration(), time.Minute)

		want := maps.Clone(original.GetHttpRequest().GetHeaders())
		want["Handoff-Generation"] = "1"
		want["Handoff-Scheduled"] = strconv.FormatInt(twin.GetScheduleTime().AsTime().UnixMilli(), 10)
		want["Handoff-Expires"] = strconv.FormatInt(twin.GetScheduleTime().AsTime().Add(time.Hour).UnixMilli(), 10)
		assert.Equal(t, twin.GetHttpRequest().GetHeaders(), want)

		// The copy is delivered and snoozed again: one more generation.
		time.Sleep(6 * time.Hour)
		assert.Equal(t, deliverStored(router, twin), http.StatusAccepted)
		assert.Equal(t, server.taken()[2].GetHttpRequest().GetHeaders()["Handoff-Generation"], "2")
		assert.Equal(t, server.taken()[2].Name != twin.Name, true)
	})
}

// The worker dies after the copy was made and before it could say so: the next
// delivery finds the copy, and that is success.
func TestSnoozeAgainFindsItsCopy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := new(taskServer)
		client := server.client(t, nil)
		snooze := func() int {
			router, err := handoff.NewRouter(handoff.RouterConfig{
				DangerouslyAllowUnauthenticated: true,
				Store:                           memstore.New(), // forgets, as if complete had never come
				DeadLetters:                     memstore.NewDeadLetters(),
				Client:                          client,
			})
			assert.NoError(t, err)
			defer func() { assert.NoError(t, router.Shutdown(context.Background())) }()
			handoff.Handle(router, func(context.Context, job) error { return handoff.Snooze(time.Hour) })
			return deliverStored(router, server.taken()[0])
		}
		_, err := client.Enqueue(t.Context(), job{})
		assert.NoError(t, err)
		assert.Equal(t, snooze(), http.StatusAccepted)
		assert.Equal(t, snooze(), http.StatusAccepted)
		assert.Equal(t, len(server.taken()), 2)

		// Where the copy cannot be made, the task stays as it is.
		server.mu.Lock()
		clear(server.names)
		server.mu.Unlock()
		server.script = func(context.Context, int, *cloudtaskspb.CreateTaskRequest, func() (*cloudtaskspb.Task, error)) (*cloudtaskspb.Task, error) {
			return nil, status.Error(codes.NotFound, "no queue")
		}
		assert.Equal(t, snooze(), http.StatusServiceUnavailable)
		assert.Equal(t, len(server.taken()), 2)
	})
}

// A task that died and is redriven runs afresh, with all its attempts, under an
// ID of its own; the letter goes.
func TestRedriveRunsAfresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := new(taskServer)
		client := server.client(t, nil)
		letters := memstore.NewDeadLetters()
		router, err := handoff.NewRouter(handoff.RouterConfig{
			DangerouslyAllowUnauthenticated: true,
			Store:                           memstore.New(),
			DeadLetters:                     letters,
		})
		assert.NoError(t, err)
		defer func() { assert.NoError(t, router.Shutdown(context.Background())) }()
		var infos []handoff.Info
		broken := true
		handoff.Handle(router, func(ctx context.Context, o order) error {
			infos = append(infos, handoff.InfoFromContext(ctx))
			if broken {
				return handoff.Permanent(nil)
			}
			return nil
		})
		ctx := t.Context()
		_, err = client.Enqueue(ctx, order{ID: "7"})
		assert.NoError(t, err)
		assert.Equal(t, deliverStored(router, server.only(t)), http.StatusResetContent)
		page, err := letters.List(ctx, handoff.DeadLetterQuery{})
		assert.NoError(t, err)
		assert.Equal(t, len(page.Letters), 1)

		broken = false
		receipt, err := client.Redrive(ctx, letters, page.Letters[0].ID)
		assert.NoError(t, err)
		again := server.taken()[1]
		assert.Equal(t, again.Name, receipt.Name)
		assert.Equal(t, deliverStored(router, again), http.StatusOK)
		assert.Equal(t, []int{infos[1].Attempt, infos[1].MaxAttempts}, []int{1, 3})
		assert.Equal(t, infos[1].ID, receipt.ID)
		var o order
		assert.NoError(t, json.Unmarshal(again.GetHttpRequest().GetBody(), &o))
		assert.Equal(t, o, order{ID: "7"})
		_, err = letters.Get(ctx, page.Letters[0].ID)
		assert.ErrorIs(t, err, handoff.ErrNoDeadLetter)
		if header := again.GetHttpRequest().GetHeaders(); header["Handoff-Old-Key"] == "" || header["Handoff-Key"] != "" {
			t.Errorf("headers of the redriven task: %v", header)
		}
	})
}
