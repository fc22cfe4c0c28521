package emulator_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

// response is a JSON response that has been read.
type response struct {
	status int
	header http.Header
	doc    map[string]any
}

// ask sends a request over a real connection.
func ask(t *testing.T, method, url, body string) response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	assert.NoError(t, err)
	req.Header.Set("Content-Type", "text/csv")
	return send(t, req)
}

func send(t *testing.T, req *http.Request) response {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	assert.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	assert.NoError(t, err)
	var doc map[string]any
	assert.NoError(t, json.Unmarshal(text, &doc))
	return response{resp.StatusCode, resp.Header, doc}
}

// TestRESTClient: Google's own REST client over a real port.
func TestRESTClient(t *testing.T) {
	t.Parallel()
	srv := emulator.RunT(t, emulator.Config{HTTPAddr: "127.0.0.1:0"})
	client, err := cloudtasks.NewRESTClient(t.Context(), option.WithEndpoint("http://"+srv.HTTPAddr()), option.WithoutAuthentication())
	assert.NoError(t, err)
	defer client.Close()
	_, err = client.CreateQueue(t.Context(), &cloudtaskspb.CreateQueueRequest{Parent: location, Queue: &cloudtaskspb.Queue{Name: emails}})
	assert.NoError(t, err)
	q, err := client.PauseQueue(t.Context(), &cloudtaskspb.PauseQueueRequest{Name: emails})
	assert.NoError(t, err)
	assert.Equal(t, q.GetState(), cloudtaskspb.Queue_PAUSED)
	assert.NoError(t, client.DeleteQueue(t.Context(), &cloudtaskspb.DeleteQueueRequest{Name: emails}))

	_, err = client.GetQueue(t.Context(), &cloudtaskspb.GetQueueRequest{Name: emails})
	var refused *googleapi.Error
	assert.Equal(t, errors.As(err, &refused), true)
	assert.Status(t, refused.Code, http.StatusNotFound)
	assert.ErrorContains(t, err, "Queue does not exist.")
}

func TestKeysAndDiscovery(t *testing.T) {
	t.Parallel()
	srv := emulator.RunT(t, emulator.Config{HTTPAddr: "127.0.0.1:0"})
	base := "http://" + srv.HTTPAddr()
	discovery := ask(t, http.MethodGet, base+"/.well-known/openid-configuration", "")
	assert.Status(t, discovery.status, http.StatusOK)
	assert.Equal(t, discovery.doc["issuer"], any("https://accounts.google.com"))

	keys := ask(t, http.MethodGet, discovery.doc["jwks_uri"].(string), "")
	assert.Status(t, keys.status, http.StatusOK)
	assert.Equal(t, keys.header.Get("Cache-Control"), "public, max-age=10")
	var want map[string]any
	assert.NoError(t, json.Unmarshal(srv.JWKS(), &want))
	assert.Equal(t, keys.doc, want)
}

func TestUnroutedPathsAreGoogleErrors(t *testing.T) {
	t.Parallel()
	srv := emulator.RunT(t, emulator.Config{HTTPAddr: "127.0.0.1:0"})
	for _, path := range []string{"/", "/v2", "/v2//queues", "/v2/../x", "/oauth2/v3/certs/more"} {
		got := ask(t, http.MethodPost, "http://"+srv.HTTPAddr()+path, "")
		assert.Status(t, got.status, http.StatusNotFound)
		assert.Equal(t, got.doc["error"].(map[string]any)["status"], any("NOT_FOUND"))
	}
}

// TestBufferTaskStores: what is stored of a buffered request. The conformance rows
// test all its paths, and the dispatch.
func TestBufferTaskStores(t *testing.T) {
	t.Parallel()
	srv := emulator.RunT(t, emulator.Config{HTTPAddr: "127.0.0.1:0"})
	tasks := cloudtaskspb.NewCloudTasksClient(srv.Conn())
	host, port, scheme := "worker.example", int64(8443), cloudtaskspb.UriOverride_HTTP
	for _, tc := range []struct {
		override *cloudtaskspb.UriOverride
		url      string
	}{
		{&cloudtaskspb.UriOverride{Host: &host}, "https://worker.example"},
		{&cloudtaskspb.UriOverride{Host: &host, Port: &port, Scheme: &scheme,
			PathOverride: &cloudtaskspb.PathOverride{Path: "/p"}, QueryOverride: &cloudtaskspb.QueryOverride{QueryParams: "x=1"}},
			"http://worker.example:8443/p?x=1"},
	} {
		_, err := tasks.UpdateQueue(t.Context(), &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{
			Name: emails, HttpTarget: &cloudtaskspb.HttpTarget{UriOverride: tc.override},
		}})
		assert.NoError(t, err)
		pause(t, tasks)
		got := ask(t, http.MethodPost, "http://"+srv.HTTPAddr()+"/v2/"+emails+"/tasks:buffer", "a,b")
		assert.Status(t, got.status, http.StatusOK)
		name := got.doc["task"].(map[string]any)["name"].(string)
		task, err := tasks.GetTask(t.Context(), &cloudtaskspb.GetTaskRequest{Name: name, ResponseView: cloudtaskspb.Task_FULL})
		assert.NoError(t, err)
		assert.Equal(t, task.GetHttpRequest().GetUrl(), tc.url)
		assert.Equal(t, string(task.GetHttpRequest().GetBody()), "a,b")
		assert.Equal(t, task.GetHttpRequest().GetHeaders()["Content-Type"], "text/csv")
	}
}

func pause(t *testing.T, tasks cloudtaskspb.CloudTasksClient) {
	t.Helper()
	_, err := tasks.PauseQueue(t.Context(), &cloudtaskspb.PauseQueueRequest{Name: emails})
	assert.NoError(t, err)
}
