package emulator_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"cloud.google.com/go/iam/apiv1/iampb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

// request sends a request to the HTTP port without a socket.
func (s *setup) request(ctx context.Context, method, path, body string) (int, string) {
	s.Helper()
	rec := httptest.NewRecorder()
	s.srv.HTTPHandler().ServeHTTP(rec, httptest.NewRequestWithContext(ctx, method, "http://localhost"+path, strings.NewReader(body)))
	return rec.Code, strings.TrimSpace(rec.Body.String())
}

func TestWaitOverHTTP(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, emulator.Config{})
		wait := func(query string, status int, want string) {
			t.Helper()
			code, body := s.request(t.Context(), http.MethodGet, "/emulator/wait"+query, "")
			assert.Status(t, code, status)
			assert.Equal(t, body, want)
		}
		wait("", 200, `{"settled":true,"left":0}`)
		for range 3 {
			s.create(func(task *cloudtaskspb.Task) { task.ScheduleTime = timestamppb.New(time.Now().Add(time.Hour)) })
		}
		start := time.Now()
		wait("", 408, `{"settled":false,"left":3}`)
		assert.Equal(t, time.Since(start), 30*time.Second)
		wait("?timeout=0s", 408, `{"settled":false,"left":3}`)
		wait("?timeout=1h", 200, `{"settled":true,"left":0}`)
		assert.Equal(t, len(s.worker.deliveries()), 3)
		wait("?timeout=10", 400, `{"settled":false,"left":0,"error":"emulator: timeout is \"10\": it must be a duration such as 30s or 2m"}`)
		wait("?timeout=-1s", 400, `{"settled":false,"left":0,"error":"emulator: timeout is \"-1s\": it must be a duration such as 30s or 2m"}`)

		// Tasks of a paused queue are not waited for.
		_, err := s.client.PauseQueue(t.Context(), &cloudtaskspb.PauseQueueRequest{Name: emails})
		assert.NoError(t, err)
		s.create()
		wait("", 200, `{"settled":true,"left":0}`)

		// A stop ends the wait for the others.
		s.resume()
		s.create(inAnHour)
		told := make(chan struct{})
		go func() {
			defer close(told)
			wait("", 503, `{"settled":false,"left":1,"error":"emulator: it is being stopped"}`)
		}()
		synctest.Wait()
		s.srv.Close()
		<-told
	})
}

// TestWaitEndsWithItsCaller: a wait ends when its caller hangs up, before the timeout.
func TestWaitEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, emulator.Config{})
		s.create(func(task *cloudtaskspb.Task) { task.ScheduleTime = timestamppb.New(time.Now().Add(time.Hour)) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		s.request(ctx, http.MethodGet, "/emulator/wait?timeout=1m", "")
		assert.Equal(t, time.Since(start), time.Second)
	})
}

// TestReset: after a reset the server is as New made it, and no dispatch is in
// flight.
func TestReset(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, emulator.Config{})
		ended := make(chan struct{})
		s.worker.before = func(_ int, r *http.Request) {
			<-r.Context().Done()
			close(ended)
		}
		named := func(task *cloudtaskspb.Task) { task.Name = emails + "/tasks/t" }
		s.create(named)
		synctest.Wait() // its dispatch hangs
		s.create(func(task *cloudtaskspb.Task) { task.ScheduleTime = timestamppb.New(time.Now().Add(time.Hour)) })
		_, err := s.client.SetIamPolicy(t.Context(), &iampb.SetIamPolicyRequest{Resource: emails, Policy: &iampb.Policy{
			Bindings: []*iampb.Binding{{Role: "roles/viewer"}},
		}})
		assert.NoError(t, err)
		_, err = s.client.UpdateCmekConfig(t.Context(), &cloudtaskspb.UpdateCmekConfigRequest{CmekConfig: &cloudtaskspb.CmekConfig{
			Name: location + "/cmekConfig", KmsKey: "projects/p/locations/l/keyRings/r/cryptoKeys/k",
		}})
		assert.NoError(t, err)
		batch, err := s.client.BatchDeleteTasks(t.Context(), &cloudtaskspb.BatchDeleteTasksRequest{Parent: emails, Names: []string{emails + "/tasks/x"}})
		assert.NoError(t, err)
		s.srv.InjectCall(emulator.CallFault{Method: "GetQueue", Code: codes.Unavailable})
		s.srv.InjectDispatch(emulator.DispatchFault{Status: 500})

		code, body := s.request(t.Context(), http.MethodPost, "/emulator/reset", "")
		assert.Status(t, code, 200)
		assert.Equal(t, body, `{"settled":true,"left":0}`)
		<-ended
		assert.Equal(t, len(s.srv.Queues()), 0)
		s.wait()
		s.worker.before = nil
		arrived := len(s.worker.deliveries())
		time.Sleep(2 * time.Hour) // past the second task's time
		assert.Equal(t, len(s.worker.deliveries()), arrived)

		// The names of the queue and the task are free, and all else is gone.
		s.createQueue(&cloudtaskspb.Queue{Name: emails, HttpTarget: &cloudtaskspb.HttpTarget{HttpMethod: cloudtaskspb.HttpMethod_PUT}})
		s.create(named)
		s.wait()
		assert.Equal(t, len(s.worker.deliveries()), arrived+1)
		_, err = s.client.GetQueue(t.Context(), &cloudtaskspb.GetQueueRequest{Name: emails})
		assert.NoError(t, err)
		policy, err := s.client.GetIamPolicy(t.Context(), &iampb.GetIamPolicyRequest{Resource: emails})
		assert.NoError(t, err)
		assert.Equal(t, len(policy.GetBindings()), 0)
		code, _ = s.request(t.Context(), http.MethodGet, "/v2/"+batch.Name(), "")
		assert.Status(t, code, http.StatusNotFound)
	})
}

// TestKeepQueues: every reset brings back the queues that were kept, as they were,
// and no others.
func TestKeepQueues(t *testing.T) {
	t.Parallel()
	s := begin(t, emulator.Config{})
	s.update(&cloudtaskspb.Queue{RateLimits: &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 7}})
	s.srv.KeepQueues()
	for range 2 {
		s.update(&cloudtaskspb.Queue{RateLimits: &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 8}})
		s.createQueue(&cloudtaskspb.Queue{Name: location + "/queues/other"})
		_, err := s.client.PauseQueue(t.Context(), &cloudtaskspb.PauseQueueRequest{Name: emails})
		assert.NoError(t, err)
		s.create()
		s.srv.Reset()
		queues := s.srv.Queues()
		assert.Equal(t, len(queues), 1)
		assert.Equal(t, queues[0].GetName(), emails)
		assert.Equal(t, queues[0].GetState(), cloudtaskspb.Queue_RUNNING)
		assert.Equal(t, queues[0].GetRateLimits().GetMaxDispatchesPerSecond(), 7)
		assert.Equal(t, len(s.srv.Tasks(emails)), 0)
	}
}

// TestResetBesideCalls needs the race detector. Close would hang if a reset had left
// a dispatch behind.
func TestResetBesideCalls(t *testing.T) {
	t.Parallel()
	s := begin(t, emulator.Config{CreateMissingQueues: true})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			_, err := s.tryCreate()
			if err != nil && !strings.Contains(err.Error(), "Queue does not exist") {
				t.Error(err)
			}
		}
	}()
	for range 50 {
		s.srv.Reset()
	}
	<-done
	s.srv.Reset()
	assert.Equal(t, len(s.srv.Queues()), 0)
	s.srv.Close()
	s.srv.Reset() // of a closed server does nothing
}

// TestFirebaseAdmin: the requests of firebase-admin, byte for byte, where
// CLOUD_TASKS_EMULATOR_HOST is set.
func TestFirebaseAdmin(t *testing.T) {
	t.Parallel()
	const (
		queue  = "/projects/p/locations/us-central1/queues/sendMail"
		create = `{"task":{"name":"projects/p/locations/us-central1/queues/sendMail/tasks/one","httpRequest":{"url":"","body":"eyJkYXRhIjp7fX0=",` +
			`"headers":{"Content-Type":"application/json"},"oidcToken":{"serviceAccountEmail":"emulated-service-acct@email.com"}}}}`
	)
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, emulator.Config{CreateMissingQueues: true, DefaultURL: "http://functions:5001/{project}/{location}/{queue}"})
		code, body := s.request(t.Context(), http.MethodPost, queue+"/tasks", create)
		assert.Status(t, code, 200)
		var task struct{ HTTPRequest struct{ URL string } }
		assert.NoError(t, json.Unmarshal([]byte(body), &task))
		assert.Equal(t, task.HTTPRequest.URL, "http://functions:5001/p/us-central1/sendMail")
		s.wait()
		got := s.worker.deliveries()
		assert.Equal(t, len(got), 1)
		assert.Equal(t, got[0].path, "/p/us-central1/sendMail")
		assert.Equal(t, got[0].header.Get("Content-Type"), "application/json")
		assert.Equal(t, strings.HasPrefix(got[0].header.Get("Authorization"), "Bearer ey"), true)

		code, _ = s.request(t.Context(), http.MethodPost, queue+"/tasks", create)
		assert.Status(t, code, http.StatusConflict) // reads as task-already-exists
		code, _ = s.request(t.Context(), http.MethodDelete, queue+"/tasks/one", "")
		assert.Status(t, code, http.StatusNotFound) // is ignored

		own := strings.NewReplacer(`"url":""`, `"url":"http://own.localhost/x"`, "/tasks/one", "/tasks/two").Replace(create)
		code, _ = s.request(t.Context(), http.MethodPost, queue+"/tasks", own)
		assert.Status(t, code, 200)
		s.wait()
		assert.Equal(t, s.worker.deliveries()[1].path, "/x")
	})
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, emulator.Config{CreateMissingQueues: true})
		code, body := s.request(t.Context(), http.MethodPost, queue+"/tasks", create)
		assert.Status(t, code, http.StatusBadRequest)
		assert.Equal(t, strings.Contains(body, "HttpRequest.url is required."), true)
	})
}
