package dashboard_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/dashboard"
	"github.com/brillconsulting/handoff/internal/assert"
)

// watch opens the stream of a page and returns what reads its next event.
func (w *world) watch(path string) (next func() (event, data string)) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	w.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.server.URL+path, nil)
	assert.NoError(w.t, err)
	req.Header.Set("Accept", "text/event-stream")
	resp, err := (&http.Client{Transport: w.browser.Transport, Jar: w.browser.Jar}).Do(req)
	assert.NoError(w.t, err)
	w.t.Cleanup(func() { _ = resp.Body.Close() })
	assert.Status(w.t, resp.StatusCode, http.StatusOK)
	assert.Equal(w.t, resp.Header.Get("Content-Type"), "text/event-stream")
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	return func() (event, data string) {
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ":")
			value = strings.TrimPrefix(value, " ")
			switch name {
			case "event":
				event = value
			case "data":
				data += value + "\n"
			case "":
				return event, data
			}
		}
		return "end", ""
	}
}

// quick is a source that is looked at often.
type quick struct{ dashboard.Source }

func (quick) About() dashboard.About {
	return dashboard.About{Name: "quick", Refresh: 10 * time.Millisecond}
}

func quickly(_ *world, c *dashboard.Config) { c.Source = quick{c.Source} }

// TestStream: what changes is sent, with the token of the page's own forms.
func TestStream(t *testing.T) {
	t.Parallel()
	w := setup(t, quickly)
	token := w.token()
	next := w.watch(page)
	event, data := next()
	assert.Equal(t, event, "live")
	contains(t, data, "<h1>emails", "No tasks are waiting.", `value="`+token+`"`)
	lacks(t, data, "<html", "<head")
	w.create(1)
	for !strings.Contains(data, ">task-0</a>") {
		if event, data = next(); event == "end" {
			t.Fatal("the stream ended")
		}
	}
	assert.NoError(t, w.admin.Queues().Delete(t.Context(), "emails"))
	for event != "trouble" {
		event, data = next()
	}
	assert.Equal(t, data, "Not there\n")
}

// TestStreamSaysNothing of what stays as it is.
func TestStreamSaysNothing(t *testing.T) {
	t.Parallel()
	w := setup(t, quickly)
	next := w.watch(board + "/")
	event, _ := next()
	assert.Equal(t, event, "live")
	event, data := next()
	assert.Equal(t, []string{event, data}, []string{"same", "\n"})
}

// TestCloseEndsStreams, so that a server can shut down.
func TestCloseEndsStreams(t *testing.T) {
	t.Parallel()
	w := setup(t, quickly)
	next := w.watch(board + "/")
	next()
	w.board.Close()
	assert.Eventually(t, 10*time.Second, func() bool { event, _ := next(); return event == "end" }, "the stream to end")
}
