package emulator_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

// TestOverTheNetwork: a dispatch on a real connection has no header that net/http
// would add by default. Tests in bubbles have no connection.
func TestOverTheNetwork(t *testing.T) {
	t.Parallel()
	type request struct {
		host, proto string
		length      int64
		encoding    []string
		headers     []string
	}
	arrived := make(chan request, 1)
	worker := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got := request{r.Host, r.Proto, r.ContentLength, r.TransferEncoding, nil}
		for name := range r.Header {
			got.headers = append(got.headers, name)
		}
		slices.Sort(got.headers)
		arrived <- got
	}))
	defer worker.Close()
	host := worker.Listener.Addr().String()

	srv := emulator.RunT(t)
	client := cloudtaskspb.NewCloudTasksClient(srv.Conn())
	_, err := client.UpdateQueue(t.Context(), &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{Name: emails}})
	assert.NoError(t, err)
	common := []string{
		"Accept-Encoding", "Content-Length", "User-Agent", "X-Cloudtasks-Queuename", "X-Cloudtasks-Tasketa",
		"X-Cloudtasks-Taskexecutioncount", "X-Cloudtasks-Taskname", "X-Cloudtasks-Taskretrycount",
	}
	for _, tc := range []struct {
		request *cloudtaskspb.HttpRequest
		want    request
	}{
		{&cloudtaskspb.HttpRequest{Body: []byte("hi")}, request{host, "HTTP/1.1", 2, nil, common}},
		{&cloudtaskspb.HttpRequest{}, request{host, "HTTP/1.1", 0, nil, common}},
		{&cloudtaskspb.HttpRequest{HttpMethod: cloudtaskspb.HttpMethod_GET},
			request{host, "HTTP/1.1", 0, nil, slices.DeleteFunc(slices.Clone(common), func(h string) bool { return h == "Content-Length" })}},
	} {
		tc.request.Url = worker.URL
		_, err := client.CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{
			Parent: emails, Task: &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: tc.request}},
		})
		assert.NoError(t, err)
		assert.Equal(t, <-arrived, tc.want)
	}
}
