package dashboard_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/dashboard"
	"github.com/brillconsulting/handoff/internal/assert"
)

func TestQueuesPage(t *testing.T) {
	t.Parallel()
	w := setup(t)
	_, err := w.admin.Queues().Create(t.Context(), admin.QueueConfig{ID: "invoices", MaxDispatchesPerSecond: 7.5, MaxConcurrentDispatches: 1234, MaxAttempts: handoff.Unlimited})
	assert.NoError(t, err)
	body := w.get(board + "/")
	contains(t, body,
		`<a href="/ops/tasks/queues/shop/europe-west1/emails">emails</a>`, "paused", `aria-label="Resume emails"`,
		`<a href="/ops/tasks/queues/shop/europe-west1/invoices">invoices</a>`, "running", `aria-label="Pause invoices"`,
		"7.50", "1,234", "no limit of dispatches", "5 dispatches, 1 s to 1 h apart",
		"Cloud Tasks keeps counts")
}

func TestPrefixRedirects(t *testing.T) {
	t.Parallel()
	w := setup(t)
	contains(t, w.get(board), "<h1>Queues</h1>")
}

func TestQueuePageIsPaged(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.create(120)
	seen := make(map[string]bool)
	next, pages := page, 0
	link := regexp.MustCompile(`<a href="(\?page=[^"]+)" rel="next">Next page</a>`)
	row := regexp.MustCompile(`>(task-\d+)</a>`)
	for next != "" {
		body := w.get(next)
		for _, match := range row.FindAllStringSubmatch(body, -1) {
			seen[match[1]] = true
		}
		pages++
		next = ""
		if match := link.FindStringSubmatch(body); match != nil {
			next = page + strings.ReplaceAll(match[1], "&amp;", "&")
		}
	}
	assert.Equal(t, []int{pages, len(seen)}, []int{3, 120})
}

func TestSearch(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.create(60)
	for query, wants := range map[string][]string{
		"q=task-41":               {">task-41</a>"},
		"q=WORKER.test/TASKS/7":   {">task-7</a>"},
		"status=waiting&q=task-5": {">task-5</a>", ">task-59</a>"},
		"status=retrying":         {"No match."},
		"kind=nothing":            {"No match."},
		"q=%3Cscript%3E":          {"No match.", "&lt;script&gt;"},
	} {
		body := w.get(page + "?" + query)
		contains(t, body, wants...)
		contains(t, body, "Searched 6")
		lacks(t, body, ">task-0</a>")
	}
}

func TestTaskPage(t *testing.T) {
	t.Parallel()
	w := setup(t)
	name := w.createTask(&cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
		Url:     "https://worker.test/tasks/welcome?x=1",
		Headers: map[string]string{"Content-Type": "application/json", "Authorization": "Bearer hunter2", "X-Api-Key": "hunter3"},
		Body:    []byte(`{"user":"ada","secret":"s3cr3t"}`),
	}}})
	path := page + "/tasks/" + name[strings.LastIndexByte(name, '/')+1:]
	body := w.get(path)
	contains(t, body, name, "https://worker.test/tasks/welcome?x=1", "Content-Type", "application/json", "Next dispatch", "waiting", "Show the payload", "hidden: may hold credentials")
	lacks(t, body, "s3cr3t", "hunter2", "hunter3")
	body = w.get(path + "?payload=shown")
	contains(t, body, "s3cr3t", "32 bytes · JSON, indented", "Hide the payload")
	lacks(t, body, "hunter2", "hunter3")
}

// The page of a failed task shows what Cloud Tasks keeps of it, and says what is
// missing.
func TestTaskPageOfAnAPI(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.tasks.SetHandler(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusBadGateway) }))
	name := w.create(1)[0]
	for attempt := 1; attempt <= 4; attempt++ {
		_, err := w.admin.Tasks().RunNow(t.Context(), name)
		assert.NoError(t, err)
		assert.Eventually(t, 10*time.Second, func() bool {
			task, err := w.admin.Tasks().Get(t.Context(), name, admin.Basic)
			return err == nil && task.Execution.Responses == attempt
		}, "an answer")
	}
	body := w.get(page + "/tasks/task-0")
	contains(t, body, "retrying", "Dispatch 1", "does not keep its response", "2 more dispatches, of which Cloud Tasks keeps nothing", "Dispatch 4", "HTTP status code 502", "Next dispatch")
	contains(t, w.get(page+"?q=502"), "task-0", "HTTP status code 502")
}

func TestNotThere(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, path := range []string{
		"/queues/shop/europe-west1/missing", "/queues/shop/europe-west1/emails/tasks/missing",
		"/queues/other/europe-west1/emails", "/queues/other/europe-west1/emails/tasks/task-0",
		"/dead/letter?id=missing", "/nothing", "/assets/missing", "/assets/..%2fdoc.go",
	} {
		status, body := w.try(board + path)
		if status != http.StatusNotFound {
			t.Fatalf("GET %s: %d: %s", path, status, body)
		}
	}
}

// hostile is text that would run a script if it were not escaped.
const hostile = `"><script>alert(1)</script><img src=x onerror=alert(2)>'--></textarea>`

// TestEverythingIsEscaped puts hostile text wherever an unknown caller could.
func TestEverythingIsEscaped(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.createTask(&cloudtaskspb.Task{Name: emails + "/tasks/task", MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
		Url:     "https://worker.test/tasks/" + url.PathEscape(hostile) + "?" + "q=<script>",
		Headers: map[string]string{"X-Note": hostile, "Content-Type": hostile},
		Body:    []byte(hostile),
	}}})
	w.bury("welcome", 1, func(l *handoff.DeadLetter) {
		l.ID, l.Kind, l.LastErr, l.Task, l.Queue, l.Target = hostile, hostile, hostile, hostile, hostile, "javascript:alert(1)"
		l.Reasons = []handoff.Reason{handoff.Reason(hostile)}
		l.Header = map[string][]string{hostile: {hostile}}
		l.Payload = []byte(hostile)
	})
	query := url.QueryEscape(hostile)
	for _, path := range []string{
		page, page + "?q=" + query + "&kind=" + query + "&status=" + query + "&page=" + query, page + "/tasks/task?payload=shown",
		page + "/tasks/" + url.PathEscape(hostile), board + "/queues/" + url.PathEscape(hostile) + "/x/y",
		page + "/tasks/" + url.PathEscape(hostile) + "/delete",
		board + "/dead", board + "/dead?kind=" + query + "&reason=" + query + "&q=" + query,
		board + "/dead/letter?payload=shown&id=" + query, board + "/dead/redrive?kind=" + query, board + "/?done=" + query,
	} {
		_, body := w.try(path)
		contains(t, body, "</html>")
		lacks(t, body, "<script>alert", "<img", "onerror=alert(2)>", `href="javascript:`, "</textarea>")
	}
}

func TestPayloads(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		body  string
		wants []string
	}{
		"nothing":   {"", []string{"0 bytes · empty"}},
		"text":      {"plain words", []string{"11 bytes · text", "plain words"}},
		"binary":    {"\xff\xfe\x00", []string{"3 bytes · hexadecimal", "ff fe 00"}},
		"very long": {strings.Repeat("long ", 50_000), []string{"250,000 bytes · text", "only the beginning is shown"}},
		"gzip":      {"\x1f\x8bnot really", []string{"hexadecimal"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.createTask(&cloudtaskspb.Task{Name: emails + "/tasks/task", MessageType: &cloudtaskspb.Task_HttpRequest{
				HttpRequest: &cloudtaskspb.HttpRequest{Url: "https://worker.test/", Body: []byte(tc.body)},
			}})
			body := w.get(page + "/tasks/task?payload=shown")
			contains(t, body, tc.wants...)
			if len(body) > 120_000 {
				t.Fatalf("the page has %d bytes", len(body))
			}
		})
	}
}

// broken is a source that cannot be reached.
type broken struct {
	dashboard.Source

	err error
}

func (b broken) Queues(context.Context) ([]admin.Queue, error) { return nil, b.err }

func (b broken) Tasks(context.Context, dashboard.TaskQuery) (dashboard.TaskPage, error) {
	return dashboard.TaskPage{}, b.err
}

func TestTroubleIsShownInPlace(t *testing.T) {
	t.Parallel()
	for status, err := range map[int]error{
		http.StatusBadGateway:         fmt.Errorf("admin: list queues: %w: check the <caller>", admin.ErrPermission),
		http.StatusServiceUnavailable: dashboard.ErrBudget,
	} {
		w := setup(t, func(_ *world, c *dashboard.Config) { c.Source = broken{c.Source, err} })
		got, body := w.try(board + "/")
		assert.Status(t, got, status)
		lacks(t, body, "<caller>")
		// The page shows the queue without its tasks.
		contains(t, w.get(page), "<h2 id=\"tasks\">", `class="trouble"`, "5 dispatches")
	}
}

// TestReaderIsGone: a page that nobody waits for any more is no failure of the
// source; one that fails while somebody waits is logged.
func TestReaderIsGone(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	w := setup(t, func(_ *world, c *dashboard.Config) {
		c.Loopback, c.Authorize = false, func(*http.Request) error { return nil }
		c.Logger = slog.New(slog.NewTextHandler(&said, nil))
	})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	w.board.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(gone, http.MethodGet, page, http.NoBody))
	assert.Equal(t, said.String(), "")
	assert.NoError(t, w.admin.Close())
	w.board.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, page, http.NoBody))
	contains(t, said.String(), "dashboard: source failed")
}
