package emulator_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	betapb "cloud.google.com/go/cloudtasks/apiv2beta3/cloudtaskspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

func TestCreateMissingQueues(t *testing.T) {
	t.Parallel()
	s := begin(t, emulator.Config{CreateMissingQueues: true})
	request := func(queue string) *cloudtaskspb.CreateTaskRequest {
		return &cloudtaskspb.CreateTaskRequest{Parent: queue, Task: &cloudtaskspb.Task{
			MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{Url: "https://worker.example"}},
		}}
	}
	single, batch, both := location+"/queues/single", location+"/queues/batch", location+"/queues/both"
	_, err := s.client.CreateTask(t.Context(), request(single))
	assert.NoError(t, err)
	_, err = s.client.BatchCreateTasks(t.Context(), &cloudtaskspb.BatchCreateTasksRequest{
		Parent: batch, Requests: []*cloudtaskspb.CreateTaskRequest{request(batch)},
	})
	assert.NoError(t, err)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_, err := s.client.CreateTask(t.Context(), request(both))
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	s.wait()
	assert.Equal(t, len(s.worker.deliveries()), 10)
	q, err := s.client.GetQueue(t.Context(), &cloudtaskspb.GetQueueRequest{Name: single})
	assert.NoError(t, err)
	assert.Equal(t, q.GetRateLimits().GetMaxDispatchesPerSecond(), 500)

	// Neither reading a queue nor an invalid name creates one.
	_, err = s.client.GetQueue(t.Context(), &cloudtaskspb.GetQueueRequest{Name: location + "/queues/other"})
	assert.Equal(t, status.Code(err), codes.NotFound)
	_, err = s.client.CreateTask(t.Context(), request(location+"/queues/a_b"))
	assert.Equal(t, status.Code(err), codes.InvalidArgument)
	// The name of a deleted queue is reserved here, too.
	assert.NoError(t, s.client.DeleteQueue(t.Context(), &cloudtaskspb.DeleteQueueRequest{Name: single}))
	_, err = s.client.CreateTask(t.Context(), request(single))
	assert.Equal(t, status.Code(err), codes.FailedPrecondition)
}

func TestNoLimits(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		rate       float64
		concurrent int32
		limited    codes.Code
		unlimited  codes.Code
	}{
		{500, 5000, codes.OK, codes.OK},
		{501, 1, codes.InvalidArgument, codes.OK},
		{1, 5001, codes.InvalidArgument, codes.OK},
		{1e6, 1 << 20, codes.InvalidArgument, codes.OK},
		{1e6 + 1, 1, codes.InvalidArgument, codes.InvalidArgument},
		{-1, 1, codes.InvalidArgument, codes.InvalidArgument},
	} {
		for unlimited, want := range map[bool]codes.Code{false: tc.limited, true: tc.unlimited} {
			s := begin(t, emulator.Config{NoLimits: unlimited})
			_, err := s.client.CreateQueue(t.Context(), &cloudtaskspb.CreateQueueRequest{Parent: location, Queue: &cloudtaskspb.Queue{
				Name:       location + "/queues/load",
				RateLimits: &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: tc.rate, MaxConcurrentDispatches: tc.concurrent},
			}})
			assert.Equal(t, status.Code(err), want)
		}
	}
}

func TestInsecureTargets(t *testing.T) {
	t.Parallel()
	for _, insecure := range []bool{false, true} {
		var w worker
		target := httptest.NewUnstartedServer(&w)
		target.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		target.StartTLS()
		t.Cleanup(target.Close)
		srv := emulator.RunT(t, emulator.Config{InsecureTargets: insecure, CreateMissingQueues: true})
		client := cloudtaskspb.NewCloudTasksClient(srv.Conn())
		_, err := client.CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: emails, Task: &cloudtaskspb.Task{
			RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: 1},
			MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{Url: target.URL}},
		}})
		assert.NoError(t, err)
		assert.NoError(t, srv.Wait(t.Context()))
		assert.Equal(t, len(w.deliveries()) == 1, insecure)
	}
	_, err := emulator.New(emulator.Config{InsecureTargets: true, Handler: http.NotFoundHandler()})
	assert.ErrorContains(t, err, "Config.InsecureTargets")
}

func TestLogTellsCallsAndAttempts(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := begin(t, emulator.Config{Logger: logger}, http.StatusInternalServerError)
	const secret = "correct-horse"
	s.create(func(task *cloudtaskspb.Task) {
		task.Name = emails + "/tasks/a"
		request := task.GetHttpRequest()
		request.Body = []byte(secret)
		request.Headers = map[string]string{"X-Secret": secret}
		request.AuthorizationHeader = &cloudtaskspb.HttpRequest_OidcToken{OidcToken: &cloudtaskspb.OidcToken{ServiceAccountEmail: "caller@p.iam.gserviceaccount.com"}}
	})
	_, err := s.tryCreate(func(task *cloudtaskspb.Task) { task.GetHttpRequest().Url = secret })
	assert.Equal(t, status.Code(err), codes.InvalidArgument)
	_, err = betapb.NewCloudTasksClient(s.srv.Conn()).CreateQueue(t.Context(), &betapb.CreateQueueRequest{
		Parent: location, Queue: &betapb.Queue{Name: location + "/queues/beta"},
	})
	assert.NoError(t, err)
	_, err = s.client.BatchDeleteTasks(t.Context(), &cloudtaskspb.BatchDeleteTasksRequest{Parent: emails, Names: []string{emails + "/tasks/b"}})
	assert.NoError(t, err)
	s.wait()
	s.srv.Close()
	for _, word := range []string{secret, "Bearer", "eyJ"} {
		assert.Equal(t, strings.Contains(log.String(), word), false)
	}
	type line struct {
		Level, Msg, Method, Resource, Code, Task string
		Status                                   int
	}
	var got []line
	for text := range strings.Lines(log.String()) {
		var l line
		assert.NoError(t, json.Unmarshal([]byte(text), &l))
		got = append(got, l)
	}
	api := "/google.cloud.tasks.v2.CloudTasks/"
	for _, want := range []line{
		{Level: "DEBUG", Msg: "call", Method: api + "CreateQueue", Resource: emails, Code: "OK"},
		{Level: "DEBUG", Msg: "call", Method: api + "CreateTask", Resource: emails + "/tasks/a", Code: "OK"},
		{Level: "INFO", Msg: "call", Method: api + "CreateTask", Resource: emails, Code: "InvalidArgument"},
		{Level: "DEBUG", Msg: "call", Method: "/google.cloud.tasks.v2beta3.CloudTasks/CreateQueue", Resource: location + "/queues/beta", Code: "OK"},
		{Level: "DEBUG", Msg: "call", Method: api + "BatchDeleteTasks", Resource: emails, Code: "OK"},
		{Level: "INFO", Msg: "dispatch", Task: "a", Status: 500},
		{Level: "DEBUG", Msg: "dispatch", Task: "a", Status: 200},
	} {
		found := 0
		for _, l := range got {
			if l == want {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%d lines %+v in\n%s", found, want, log.String())
		}
	}
}
