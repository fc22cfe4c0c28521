package dashboard_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/dashboard"
	"github.com/brillconsulting/handoff/internal/assert"
)

func (w *world) state() admin.State {
	w.t.Helper()
	queue, err := w.admin.Queues().Get(w.t.Context(), "emails")
	assert.NoError(w.t, err)
	return queue.State
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	w := setup(t)
	status, body := w.post(page+"/resume", nil)
	assert.Status(t, status, http.StatusOK)
	contains(t, body, "The queue is running.", ">Pause</button>")
	assert.Equal(t, w.state(), admin.Running)
	_, body = w.post(page+"/pause", nil)
	contains(t, body, "The queue is paused.", ">Resume</button>")
	assert.Equal(t, w.state(), admin.Paused)
}

// TestPurge checks that the ID of the queue must be typed.
func TestPurge(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.create(3)
	contains(t, w.get(page+"/purge"), "for good", `name="confirm" required`)
	for _, typed := range []string{"", "email", "EMAILS", "emails "} {
		status, body := w.post(page+"/purge", url.Values{"confirm": {typed}})
		assert.Status(t, status, http.StatusUnprocessableEntity)
		contains(t, body, "Nothing was purged")
	}
	assert.Equal(t, len(w.tasks.Tasks(emails)), 3)
	_, body := w.post(page+"/purge", url.Values{"confirm": {"emails"}})
	contains(t, body, "The purge has begun.", "No tasks are waiting.")
	assert.Equal(t, len(w.tasks.Tasks(emails)), 0)
}

func TestRunNow(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ran := make(chan string, 1)
	w.tasks.SetHandler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { ran <- r.URL.Path }))
	w.create(2)
	// The task may have ended before its page is loaded again.
	w.post(page+"/tasks/task-1/run", nil)
	assert.Equal(t, <-ran, "/tasks/1")
}

func TestDeleteTask(t *testing.T) {
	t.Parallel()
	w := setup(t)
	names := w.create(2)
	contains(t, w.get(page+"/tasks/task-0/delete"), "for good", names[0])
	_, body := w.post(page+"/tasks/task-0/delete", nil)
	contains(t, body, "The task is deleted.", ">task-1</a>")
	_, err := w.admin.Tasks().Get(t.Context(), names[0], admin.Basic)
	assert.ErrorIs(t, err, admin.ErrNotFound)
	status, _ := w.post(page+"/tasks/task-0/delete", nil)
	assert.Status(t, status, http.StatusNotFound)
}

// A link must not make a source use its credentials for another project.
func TestOtherLocations(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, path := range []string{"/pause", "/tasks/task-0/run", "/tasks/task-0/delete"} {
		status, _ := w.post(board+"/queues/other/europe-west1/emails"+path, nil)
		assert.Status(t, status, http.StatusNotFound)
	}
}

// Changes are logged with what they changed. Reads and payloads are not.
func TestChangesAreLogged(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	w := setup(t, func(_ *world, c *dashboard.Config) { c.Logger = slog.New(slog.NewTextHandler(&said, nil)) })
	w.bury("welcome", 1, func(l *handoff.DeadLetter) { l.Payload = []byte("s3cr3t") })
	w.get(board + "/dead/letter?id=welcome-0&payload=shown")
	w.post(page+"/resume", nil)
	w.post(board+"/dead/letter/redrive", url.Values{"id": {"welcome-0"}})
	w.server.Close()
	contains(t, said.String(), "path=/queues/shop/europe-west1/emails/resume", "letters=[welcome-0]", "remote=127.0.0.1:")
	lacks(t, said.String(), "s3cr3t", "shown")
	assert.Equal(t, strings.Count(said.String(), "\n"), 2)
}
