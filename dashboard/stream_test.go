package dashboard_test

import (
	"bufio"
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/dashboard"
	"github.com/brillconsulting/handoff/internal/assert"
)

// watch opens the stream of a page and returns a function that reads its next
// event.
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
	lines.Split(browserLines)
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

// browserLines splits as a browser does: a line ends with "\r\n", "\n" or "\r".
func browserLines(data []byte, atEOF bool) (advance int, line []byte, err error) {
	i := bytes.IndexAny(data, "\r\n")
	switch {
	case i < 0 && atEOF && len(data) > 0:
		return len(data), data, nil
	case i < 0 || data[i] == '\r' && i+1 == len(data) && !atEOF:
		return 0, nil, nil
	case data[i] == '\r' && i+1 < len(data) && data[i+1] == '\n':
		return i + 2, data[:i], nil
	}
	return i + 1, data[:i], nil
}

// quick is a source with a short Refresh.
type quick struct{ dashboard.Source }

func (quick) About() dashboard.About {
	return dashboard.About{Name: "quick", Refresh: 10 * time.Millisecond}
}

func quickly(_ *world, c *dashboard.Config) { c.Source = quick{c.Source} }

// A stream sends what changes, with the token of the page's forms.
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
	assert.Equal(t, data, "Not found\n")
}

// A stream sends nothing that is unchanged.
func TestStreamSaysNothing(t *testing.T) {
	t.Parallel()
	w := setup(t, quickly)
	next := w.watch(board + "/")
	event, _ := next()
	assert.Equal(t, event, "live")
	event, data := next()
	assert.Equal(t, []string{event, data}, []string{"same", "\n"})
}

// Close ends streams, so that a server can shut down.
func TestCloseEndsStreams(t *testing.T) {
	t.Parallel()
	w := setup(t, quickly)
	next := w.watch(board + "/")
	next()
	w.board.Close()
	assert.Eventually(t, 10*time.Second, func() bool { event, _ := next(); return event == "end" }, "the stream to end")
}

// Line ends of any form in an error text, a payload or a header cannot begin
// another event.
func TestStreamCannotBeForged(t *testing.T) {
	t.Parallel()
	w := setup(t, quickly)
	const forged = "no user \r\revent: live\rdata: Nothing is dead.\r\r\n\r\n\nevent: trouble\ndata: x\n\n\r"
	w.bury("welcome", 1, func(l *handoff.DeadLetter) {
		l.LastErr, l.Target = forged, forged
	})
	w.createTask(&cloudtaskspb.Task{Name: emails + "/tasks/forged", MessageType: &cloudtaskspb.Task_HttpRequest{
		HttpRequest: &cloudtaskspb.HttpRequest{Url: "https://worker.test/", Headers: map[string]string{"X-Note": "a\tb"}, Body: []byte(forged)},
	}})
	for path, last := range map[string]string{board + "/dead": "</table>", page + "/tasks/forged?payload=shown": "Hide the payload"} {
		next := w.watch(path)
		event, data := next()
		assert.Equal(t, event, "live")
		contains(t, data, "event: trouble", last)
		event, _ = next()
		assert.Equal(t, event, "same")
	}
}
