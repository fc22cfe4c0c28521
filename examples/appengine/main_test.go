package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

// post sends a form from outside, and returns the status.
func post(t *testing.T, url string, form url.Values) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(form.Encode()))
	assert.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	assert.NoError(t, err)
	resp.Body.Close()
	return resp.StatusCode
}

func TestRun(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, func(string) string { return "" }, "127.0.0.1:0", w) }()
	out := bufio.NewReader(r)
	line, err := out.ReadString('\n')
	assert.NoError(t, err)
	var port int
	_, err = fmt.Sscanf(line, "serving on port %d,", &port)
	assert.NoError(t, err)
	base := fmt.Sprintf("http://127.0.0.1:%d", port)

	assert.Status(t, post(t, base+"/sign", url.Values{"name": {"Ada"}}), http.StatusAccepted)
	line, err = out.ReadString('\n')
	assert.NoError(t, err)
	assert.Equal(t, line, "Dear Ada, thank you. (queue guests, attempt 1, from App Engine: true)\n")

	assert.Status(t, post(t, base+"/tasks/thank-you", nil), http.StatusUnauthorized)
	stop()
	assert.NoError(t, <-ended)
}

// On App Engine, one error names every variable that is missing.
func TestOnAppEngine(t *testing.T) {
	t.Parallel()
	_, err := surroundingsOf(t.Context(), func(name string) string { return map[string]string{"GAE_ENV": "standard"}[name] }, 0)
	assert.ErrorContains(t, err, "QUEUE_LOCATION", "REDIS_ADDR")
	page, err := os.ReadFile("app.yaml")
	assert.NoError(t, err)
	for _, name := range []string{"QUEUE_LOCATION:", "REDIS_ADDR:"} {
		if !strings.Contains(string(page), name) {
			t.Errorf("app.yaml has no %s", name)
		}
	}
	around, err := surroundingsOf(t.Context(), func(name string) string { return name }, 0)
	assert.NoError(t, err)
	around.close()
	assert.Equal(t, around.project, "GOOGLE_CLOUD_PROJECT")
	assert.Equal(t, around.emulated, false)
}
