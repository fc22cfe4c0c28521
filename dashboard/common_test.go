package dashboard_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/dashboard"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/memstore"
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

const (
	project  = "shop"
	location = "europe-west1"
	emails   = "projects/shop/locations/europe-west1/queues/emails"
	board    = "/ops/tasks" // where it is mounted
	page     = board + "/queues/shop/europe-west1/emails"
)

// world is a dashboard of a real emulator, and a browser without JavaScript.
type world struct {
	t       *testing.T
	tasks   *emulator.Server
	admin   *admin.Admin
	letters *memstore.DeadLetters
	client  *handoff.Client
	board   *dashboard.Dashboard
	server  *httptest.Server
	browser *http.Client
}

// setup mounts a dashboard with Loopback. change may change its configuration.
func setup(t *testing.T, change ...func(*world, *dashboard.Config)) *world {
	t.Helper()
	w := &world{t: t, tasks: emulator.RunT(t), letters: memstore.NewDeadLetters()}
	var err error
	w.admin, err = admin.New(t.Context(), admin.Config{Project: project, Location: location, Options: w.tasks.ClientOptions()})
	assert.NoError(t, err)
	t.Cleanup(func() { _ = w.admin.Close() })
	w.client, err = handoff.NewClient(t.Context(), handoff.ClientConfig{
		Project: project, Location: location, Options: w.tasks.ClientOptions(),
		Target: handoff.HTTPTarget{URL: "https://worker.test/tasks", ServiceAccount: "tasks@shop.iam.gserviceaccount.com"},
	})
	assert.NoError(t, err)
	t.Cleanup(func() { _ = w.client.Close() })
	_, err = w.admin.Queues().Create(t.Context(), admin.QueueConfig{ID: "emails"})
	assert.NoError(t, err)
	_, err = w.admin.Queues().Pause(t.Context(), "emails") // tasks stay where they are put
	assert.NoError(t, err)
	source, err := dashboard.NewAdminSource(dashboard.AdminSourceConfig{Admin: w.admin, Unmetered: true})
	assert.NoError(t, err)
	config := dashboard.Config{
		Source:      source,
		DeadLetters: w.letters,
		Client:      w.client,
		Prefix:      board,
		Loopback:    true,
		Logger:      slog.New(slog.DiscardHandler),
	}
	for _, c := range change {
		c(w, &config)
	}
	w.board, err = dashboard.New(config)
	assert.NoError(t, err)
	t.Cleanup(w.board.Close)
	w.server = httptest.NewServer(w.board)
	t.Cleanup(w.server.Close)
	jar, err := cookiejar.New(nil)
	assert.NoError(t, err)
	w.browser = &http.Client{Jar: jar, Timeout: 30 * time.Second}
	t.Cleanup(w.browser.CloseIdleConnections)
	return w
}

// get returns a page, whose status must be 200.
func (w *world) get(path string) string {
	w.t.Helper()
	status, body := w.try(path)
	if status != http.StatusOK {
		w.t.Fatalf("GET %s: %d: %s", path, status, body)
	}
	return body
}

func (w *world) try(path string) (int, string) {
	w.t.Helper()
	resp, err := w.browser.Get(w.server.URL + path)
	assert.NoError(w.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	assert.NoError(w.t, err)
	return resp.StatusCode, string(body)
}

var tokenInput = regexp.MustCompile(`name="token" value="([^"]+)"`)

// token returns the token of a page's forms.
func (w *world) token() string {
	w.t.Helper()
	match := tokenInput.FindStringSubmatch(w.get(page + "/purge"))
	if match == nil {
		w.t.Fatal("the page has no token")
	}
	return match[1]
}

// post sends a form of the dashboard as a browser does, and follows the redirect.
func (w *world) post(path string, values url.Values) (int, string) {
	w.t.Helper()
	if values == nil {
		values = url.Values{}
	}
	values.Set("token", w.token())
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.server.URL+path, strings.NewReader(values.Encode()))
	assert.NoError(w.t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	resp, err := w.browser.Do(req)
	assert.NoError(w.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	assert.NoError(w.t, err)
	return resp.StatusCode, string(body)
}

// create makes tasks that are due in an hour, named task-0 and so on, and
// returns their full names.
func (w *world) create(n int) []string {
	w.t.Helper()
	names := make([]string, n)
	for i := range names {
		names[i] = emails + "/tasks/task-" + strconv.Itoa(i)
		w.createTask(&cloudtaskspb.Task{Name: names[i], MessageType: &cloudtaskspb.Task_HttpRequest{
			HttpRequest: &cloudtaskspb.HttpRequest{Url: "https://worker.test/tasks/" + strconv.Itoa(i)},
		}})
	}
	return names
}

func (w *world) createTask(task *cloudtaskspb.Task) string {
	w.t.Helper()
	if task.ScheduleTime == nil {
		task.ScheduleTime = timestamppb.New(time.Now().Add(time.Hour))
	}
	created, err := cloudtaskspb.NewCloudTasksClient(w.tasks.Conn()).CreateTask(w.t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: emails, Task: task})
	assert.NoError(w.t, err)
	return created.GetName()
}

// bury puts letters of a kind into the store. Their IDs begin with the kind.
func (w *world) bury(kind string, n int, change ...func(*handoff.DeadLetter)) []string {
	w.t.Helper()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = kind + "-" + strconv.Itoa(i)
		letter := handoff.DeadLetter{
			ID: ids[i], Task: "task-" + strconv.Itoa(i), Queue: "emails", Kind: kind, HandoffID: "id-" + ids[i],
			Target: "https://worker.test/tasks/" + kind, Payload: []byte(`{"n":1}`),
			Reasons: []handoff.Reason{handoff.ReasonPermanent}, Attempts: 1, LastErr: "no such user",
			BuriedAt: time.Now().Add(-time.Duration(i) * time.Minute),
		}
		for _, c := range change {
			c(&letter)
		}
		assert.NoError(w.t, w.letters.Put(context.Background(), letter))
	}
	return ids
}

func contains(t *testing.T, page string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(page, text) {
			t.Fatalf("the page lacks %q:\n%s", text, page)
		}
	}
}

func lacks(t *testing.T, page string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(page, text) {
			t.Fatalf("the page has %q:\n%s", text, page)
		}
	}
}
