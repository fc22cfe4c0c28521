package emulatorsource_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/dashboard"
	"github.com/brillconsulting/handoff/dashboard/emulatorsource"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

const emails = "projects/shop/locations/europe-west1/queues/emails"

type world struct {
	*testing.T
	srv    *emulator.Server
	api    cloudtaskspb.CloudTasksClient
	source *emulatorsource.Source
}

func setup(t *testing.T, handler http.HandlerFunc) *world {
	t.Helper()
	srv := emulator.RunT(t, emulator.Config{Handler: handler})
	source, err := emulatorsource.New(srv)
	assert.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, source.Close()) })
	w := &world{t, srv, cloudtaskspb.NewCloudTasksClient(srv.Conn()), source}
	w.queue(emails, 2)
	return w
}

func (w *world) queue(name string, attempts int32) {
	w.Helper()
	_, err := w.api.UpdateQueue(w.Context(), &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{
		Name: name, RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: attempts, MinBackoff: durationpb.New(time.Millisecond)},
	}})
	assert.NoError(w, err)
}

func (w *world) task(url string) string {
	w.Helper()
	task, err := w.api.CreateTask(w.Context(), &cloudtaskspb.CreateTaskRequest{Parent: emails, Task: &cloudtaskspb.Task{
		MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{Url: url, Body: []byte(`{"user_id":"42"}`), Headers: map[string]string{"Content-Type": "application/json"}}},
	}})
	assert.NoError(w, err)
	return task.GetName()
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	_, err := emulatorsource.New(nil)
	assert.ErrorContains(t, err, "emulatorsource: ")
}

// A source has the queues of all locations.
func TestAllLocations(t *testing.T) {
	t.Parallel()
	w := setup(t, nil)
	w.queue("projects/shop/locations/us-east1/queues/emails", 1)
	w.queue("projects/bank/locations/europe-west1/queues/b", 1)
	w.queue("projects/bank/locations/europe-west1/queues/a", 1)
	queues, err := w.source.Queues(t.Context())
	assert.NoError(t, err)
	var names []string
	for _, q := range queues {
		names = append(names, q.Name)
		assert.Equal(t, q.Stats != nil, true)
	}
	assert.Equal(t, names, []string{
		"projects/bank/locations/europe-west1/queues/a", "projects/bank/locations/europe-west1/queues/b",
		emails, "projects/shop/locations/us-east1/queues/emails",
	})
	assert.NoError(t, w.source.Pause(t.Context(), "projects/shop/locations/us-east1/queues/emails"))
	q, err := w.source.Queue(t.Context(), "projects/shop/locations/us-east1/queues/emails")
	assert.NoError(t, err)
	assert.Equal(t, q.State, admin.Paused)
	q, err = w.source.Queue(t.Context(), emails)
	assert.NoError(t, err)
	assert.Equal(t, q.State, admin.Running)
}

func TestMissing(t *testing.T) {
	t.Parallel()
	w := setup(t, nil)
	for _, name := range []string{"", "emails", "projects/no/locations/such/queues/place", "projects/shop/locations/europe-west1/queues/missing"} {
		_, err := w.source.Queue(t.Context(), name)
		assert.ErrorIs(t, err, admin.ErrNotFound)
		_, err = w.source.Activity(t.Context(), name)
		assert.ErrorIs(t, err, admin.ErrNotFound)
		_, err = w.source.Life(t.Context(), name+"/tasks/x")
		assert.ErrorIs(t, err, admin.ErrNotFound)
		assert.ErrorIs(t, w.source.RunNow(t.Context(), name+"/tasks/x"), admin.ErrNotFound)
	}
}

func serve(t *testing.T, source dashboard.Source) *httptest.Server {
	t.Helper()
	board, err := dashboard.New(dashboard.Config{Source: source, Loopback: true, Logger: slog.New(slog.DiscardHandler)})
	assert.NoError(t, err)
	t.Cleanup(board.Close)
	server := httptest.NewServer(board)
	t.Cleanup(server.Close)
	return server
}

// late has a task created after it was looked for, and before its history is.
type late struct {
	*emulatorsource.Source
	create func()
}

func (l late) Task(ctx context.Context, name string, view admin.View) (admin.Task, error) {
	task, err := l.Source.Task(ctx, name, view)
	l.create()
	return task, err
}

// TestTaskCreatedMeanwhile: a task that was not there at first is not shown as
// one that has ended.
func TestTaskCreatedMeanwhile(t *testing.T) {
	t.Parallel()
	w := setup(t, nil)
	assert.NoError(t, w.source.Pause(t.Context(), emails))
	task := &cloudtaskspb.Task{Name: emails + "/tasks/t", MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{Url: "https://worker.test/"}}}
	server := serve(t, late{w.source, func() {
		_, err := w.api.CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: emails, Task: task})
		assert.NoError(t, err)
	}})
	resp, err := server.Client().Get(server.URL + "/queues/shop/europe-west1/emails/tasks/t")
	assert.NoError(t, err)
	assert.NoError(t, resp.Body.Close())
	assert.Status(t, resp.StatusCode, http.StatusNotFound)
}

// The page of a task that has ended shows its whole history.
func TestTimeline(t *testing.T) {
	t.Parallel()
	w := setup(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/fails" {
			rw.WriteHeader(http.StatusBadGateway)
		}
	})
	good, bad := w.task("https://worker.test/works"), w.task("https://worker.test/fails")
	assert.NoError(t, w.srv.Wait(t.Context()))
	life, err := w.source.Life(t.Context(), good)
	assert.NoError(t, err)
	assert.Equal(t, []any{life.End, life.Target, len(life.Attempts), life.Attempts[0].Status}, []any{dashboard.Succeeded, "https://worker.test/works", 1, 200})
	life, err = w.source.Life(t.Context(), bad)
	assert.NoError(t, err)
	assert.Equal(t, []any{life.End, len(life.Attempts), life.Attempts[1].Status, life.Earlier}, []any{dashboard.GivenUp, 2, 502, 0})
	ended, err := w.source.Ended(t.Context(), emails, 10)
	assert.NoError(t, err)
	assert.Equal(t, len(ended), 2)

	server := serve(t, w.source)
	for path, wants := range map[string][]string{
		"/": {"emails", `class="spark"`},
		"/queues/shop/europe-west1/emails": {
			"Throughput", "Outcomes", "Lag behind schedule", "Ended last", ">succeeded</span>", ">given up</span>",
		},
		"/queues/shop/europe-west1/emails/tasks/" + bad[len(emails)+len("/tasks/"):]: {
			"Created", "Dispatch 1", "Dispatch 2", "502 Bad Gateway", "Given up", "POST https://worker.test/fails", "Content-Type", "Show the payload",
		},
		"/queues/shop/europe-west1/emails/tasks/" + bad[len(emails)+len("/tasks/"):] + "?payload=shown": {"user_id"},
	} {
		resp, err := server.Client().Get(server.URL + path)
		assert.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		assert.NoError(t, err)
		resp.Body.Close()
		for _, want := range wants {
			if !strings.Contains(string(body), want) {
				t.Fatalf("%s lacks %q:\n%s", path, want, body)
			}
		}
	}
}

// The start page groups failing tasks by kind, or by target if they have no kind.
func TestFailing(t *testing.T) {
	t.Parallel()
	w := setup(t, func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusBadGateway) })
	const slow = "projects/shop/locations/europe-west1/queues/slow"
	_, err := w.api.UpdateQueue(w.Context(), &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{
		Name: slow, RetryConfig: &cloudtaskspb.RetryConfig{MinBackoff: durationpb.New(time.Hour)},
	}})
	assert.NoError(t, err)
	create := func(url string, header map[string]string) {
		_, err := w.api.CreateTask(w.Context(), &cloudtaskspb.CreateTaskRequest{Parent: slow, Task: &cloudtaskspb.Task{
			MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{Url: url, Headers: header}},
		}})
		assert.NoError(t, err)
	}
	create("https://worker.test/hooks/contact", nil)
	stamp := map[string]string{"Handoff-Version": "1", "Handoff-Id": "HX4WKIWRPLVXKXRNRG2SMM"}
	create("https://worker.test/tasks/charge-card", stamp)
	create("https://worker.test/tasks/charge-card", stamp)
	var failing []dashboard.Failing
	assert.Eventually(t, 20*time.Second, func() bool {
		failing, err = w.source.Failing(t.Context(), slow)
		return err == nil && len(failing) == 2 && failing[0].Tasks == 2
	}, "the tasks to fail")
	assert.Equal(t, []any{failing[0].Kind, failing[0].Last.Status, failing[1].Kind, failing[1].Target, failing[1].Tasks}, []any{"charge-card", 502, "", "https://worker.test/hooks/contact", 1})

	server := serve(t, w.source)
	resp, err := server.Client().Get(server.URL)
	assert.NoError(t, err)
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	assert.NoError(t, err)
	for _, want := range []string{
		`<a href="/queues/shop/europe-west1/slow?kind=charge-card&amp;status=retrying">charge-card</a> <b>2</b> <span class="dim">502 Bad Gateway`,
		`/hooks/contact</a> <b>1</b>`,
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the first page lacks %q:\n%s", want, page)
		}
	}
}
