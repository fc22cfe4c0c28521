package emulator_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

// everyRoute is a request for everything that the HTTP port serves.
var everyRoute = []struct{ method, path, body string }{
	{http.MethodGet, "/v2/" + location + "/queues", ""},
	{http.MethodPost, "/v2/" + location + "/queues", fmt.Sprintf(`{"name":%q}`, emails)},
	{http.MethodPatch, "/v2/" + emails, "{}"},
	{http.MethodPost, "/v2/" + emails + "/tasks", `{"task":{"httpRequest":{"url":"https://worker.example"}}}`},
	{http.MethodPost, "/" + emails + "/tasks", `{"task":{"httpRequest":{"url":"https://worker.example"}}}`},
	{http.MethodGet, "/v2/" + emails + "/tasks?responseView=FULL", ""},
	{http.MethodGet, "/v2/" + emails + "/tasks:buffer", ""},
	{http.MethodPost, "/v2beta3/" + emails + "/tasks:buffer", "x"},
	{http.MethodOptions, "/v2/" + location + "/queues", ""},
	{http.MethodPost, "/emulator/reset", ""},
	{http.MethodGet, "/emulator/wait?timeout=1ms", ""},
	{http.MethodGet, "/oauth2/v3/certs", ""},
	{http.MethodGet, "/.well-known/openid-configuration", ""},
	{http.MethodGet, "/nothing", ""},
}

// TestStrangersAreRefused: a web page in a developer's browser reaches the
// emulator's port. Every such request is refused: it changes nothing and reads nothing.
func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	srv := emulator.RunT(t, emulator.Config{HTTPAddr: "127.0.0.1:0", Hosts: []string{"tasks.example.com"}, CreateMissingQueues: true})
	for name, change := range map[string]func(*http.Request){
		"another site": func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Set("Sec-Fetch-Mode", "no-cors")
		},
		"another port": func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
		"another site's link": func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Set("Sec-Fetch-Mode", "navigate")
			r.Header.Set("Sec-Fetch-Dest", "document")
		},
		"another site, old browser": func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
		"rebound name":              func(r *http.Request) { r.Host = "evil.example:" + strings.Split(srv.HTTPAddr(), ":")[1] },
	} {
		for _, route := range everyRoute {
			got := guarded(t, srv, route.method, route.path, route.body, change)
			assert.Status(t, got.status, http.StatusForbidden)
			assert.Equal(t, got.doc["error"].(map[string]any)["status"], any("PERMISSION_DENIED"))
			if got.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s, %s %s: the response may be read", name, route.method, route.path)
			}
		}
	}
	assert.Equal(t, len(srv.Queues()), 0)

	// What a program sends, and a browser for its own pages, is served.
	for _, change := range []func(*http.Request){
		func(*http.Request) {},
		func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") },
		func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "none") },
		func(r *http.Request) { r.Host = "tasks.example.com:8124" },
		func(r *http.Request) { r.Host = "tasks:8124" },
		func(r *http.Request) { r.Host = "host.docker.internal:8124" },
	} {
		got := guarded(t, srv, http.MethodGet, "/v2/"+location+"/queues", "", change)
		assert.Status(t, got.status, http.StatusOK)
	}
}

// TestBufferTaskByBrowser: a GET whose page is unknown creates no task. Other
// methods come with an Origin if a page sends them.
func TestBufferTaskByBrowser(t *testing.T) {
	t.Parallel()
	srv := emulator.RunT(t, emulator.Config{HTTPAddr: "127.0.0.1:0", Handler: http.NotFoundHandler()})
	host := "worker.example"
	_, err := cloudtaskspb.NewCloudTasksClient(srv.Conn()).UpdateQueue(t.Context(), &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{
		Name: emails, HttpTarget: &cloudtaskspb.HttpTarget{UriOverride: &cloudtaskspb.UriOverride{Host: &host}},
	}})
	assert.NoError(t, err)
	browser := func(r *http.Request) { r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)") }
	program := func(*http.Request) {}
	own := func(r *http.Request) { browser(r); r.Header.Set("Sec-Fetch-Site", "same-origin") }
	for i, tc := range []struct {
		method string
		change func(*http.Request)
		want   int
	}{
		{http.MethodGet, browser, http.StatusForbidden}, {http.MethodGet, program, http.StatusOK}, {http.MethodGet, own, http.StatusOK},
		{http.MethodPost, browser, http.StatusOK}, {http.MethodPut, browser, http.StatusOK},
	} {
		got := guarded(t, srv, tc.method, fmt.Sprintf("/v2/%s/tasks/t%d:buffer", emails, i), "", tc.change)
		assert.Status(t, got.status, tc.want)
	}
}

func guarded(t *testing.T, srv *emulator.Server, method, path, body string, change func(*http.Request)) response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+srv.HTTPAddr()+path, strings.NewReader(body))
	assert.NoError(t, err)
	change(req)
	return send(t, req)
}

func TestHostsAreNames(t *testing.T) {
	t.Parallel()
	_, err := emulator.New(emulator.Config{Hosts: []string{"tasks.example.com", "http://tasks", "*"}})
	assert.ErrorContains(t, err, `emulator: Config.Hosts has "http://tasks"`, `Config.Hosts has "*"`, "without a scheme or a port")
}
