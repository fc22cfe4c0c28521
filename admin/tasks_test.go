package admin_test

import (
	"context"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

// TestTaskOfAPayload shows how an operator sees a task created by Enqueue.
func TestTaskOfAPayload(t *testing.T) {
	t.Parallel()
	a, srv, _ := emulated(t)
	_, err := a.Queues().Ensure(t.Context(), admin.QueueConfig{ID: "emails"})
	assert.NoError(t, err)
	client, err := handoff.NewClient(t.Context(), handoff.ClientConfig{
		Project: project, Location: location, Options: srv.ClientOptions(),
		Target: handoff.HTTPTarget{URL: "https://worker.test/tasks", ServiceAccount: "caller@my-project.iam.gserviceaccount.com"},
	})
	assert.NoError(t, err)
	defer client.Close()
	receipt, err := client.Enqueue(t.Context(), welcome{}, handoff.In(time.Hour), handoff.Header("X-Tenant", "acme"))
	assert.NoError(t, err)

	task, err := a.Tasks().Get(t.Context(), receipt.Name, admin.Full)
	assert.NoError(t, err)
	assert.Equal(t, task.Name, receipt.Name)
	assert.Equal(t, a.Tasks().Name(task.Queue, task.ID), receipt.Name)
	assert.Equal(t, task.Queue, "emails")
	assert.Equal(t, task.HandoffID, receipt.ID)
	assert.Equal(t, task.Kind, "welcome")
	assert.Equal(t, task.Method, http.MethodPost)
	assert.Equal(t, task.URL, "https://worker.test/tasks/welcome")
	assert.Equal(t, task.Header.Get("X-Tenant"), "acme")
	assert.Equal(t, string(task.Body), "{}")
	assert.Equal(t, task.ServiceAccount, "caller@my-project.iam.gserviceaccount.com")
	assert.Equal(t, task.Audience, "https://worker.test")
	assert.Equal(t, task.ScheduledAt.Equal(receipt.ScheduledAt.Truncate(time.Microsecond)), true)
	assert.Equal(t, task.Deadline, 10*time.Minute)
	assert.Equal(t, *task.Retry, handoff.Retry{MaxAttempts: handoff.Unlimited, MinBackoff: time.Second, MaxBackoff: time.Hour, MaxDoublings: 16})
	assert.Equal(t, task.Execution, admin.Execution{})

	task, err = a.Tasks().Get(t.Context(), receipt.Name, admin.Basic)
	assert.NoError(t, err)
	assert.Equal(t, len(task.Body), 0)
	assert.Equal(t, task.Kind, "welcome")
}

// TestTaskOfAnother shows an App Engine task that handoff did not create.
func TestTaskOfAnother(t *testing.T) {
	t.Parallel()
	a, srv, _ := emulated(t)
	createTasks(t, srv, "emails", 0, 0)
	client, err := handoff.NewClient(t.Context(), handoff.ClientConfig{
		Project: project, Location: location, Options: srv.ClientOptions(),
		Target: handoff.AppEngineTarget{Service: "worker"},
	})
	assert.NoError(t, err)
	defer client.Close()
	receipt, err := client.EnqueueRequest(t.Context(), handoff.Request{Method: http.MethodPut, URL: "/work?x=1", AppEngine: &handoff.AppEngineTarget{Service: "worker"}, Body: []byte("raw")}, handoff.OnQueue("emails"), handoff.In(time.Hour))
	assert.NoError(t, err)
	task, err := a.Tasks().Get(t.Context(), receipt.Name, admin.Full)
	assert.NoError(t, err)
	assert.Equal(t, task.Method, http.MethodPut)
	assert.Equal(t, task.URL, "/work?x=1")
	assert.Equal(t, task.AppEngine, &admin.AppEngineRouting{Service: "worker"})
	assert.Equal(t, string(task.Body), "raw")
}

func TestTaskDelete(t *testing.T) {
	t.Parallel()
	a, srv, _ := emulated(t)
	names := createTasks(t, srv, "emails", 2, time.Hour)
	assert.NoError(t, a.Tasks().Delete(t.Context(), names[0]))
	assert.ErrorIs(t, a.Tasks().Delete(t.Context(), names[0]), admin.ErrNotFound)
	_, err := a.Tasks().Get(t.Context(), names[0], admin.Basic)
	assert.ErrorIs(t, err, admin.ErrNotFound)
	assert.Equal(t, len(srv.Tasks("emails")), 1)
}

// TestTaskRunNow runs a task that is due tomorrow, on a paused queue.
func TestTaskRunNow(t *testing.T) {
	t.Parallel()
	ran := make(chan struct{}, 1)
	a, srv, _ := emulated(t, emulator.Config{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { ran <- struct{}{} })})
	names := createTasks(t, srv, "emails", 1, 24*time.Hour)
	_, err := a.Queues().Pause(t.Context(), "emails")
	assert.NoError(t, err)
	task, err := a.Tasks().RunNow(t.Context(), names[0])
	assert.NoError(t, err)
	assert.Equal(t, task.Name, names[0])
	<-ran
	assert.NoError(t, a.Tasks().WaitGone(t.Context(), names[0]))
	_, err = a.Tasks().RunNow(t.Context(), names[0])
	assert.ErrorIs(t, err, admin.ErrNotFound)
}

// TestTaskWaitGone waits for an hour, through failures and an exhausted quota.
func TestTaskWaitGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int32
		a, srv, rpcs := emulated(t, emulator.Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if runs.Add(1) < 3 {
				w.WriteHeader(http.StatusInternalServerError)
			}
		})})
		names := createTasks(t, srv, "emails", 1, time.Hour)
		rpcs.before = func(method string, nth int, _ any) error {
			if method == "GetTask" && nth%10 == 0 {
				return status.Error(codes.ResourceExhausted, "quota")
			}
			return nil
		}
		start := time.Now()
		assert.NoError(t, a.Tasks().WaitGone(t.Context(), names[0]))
		assert.Equal(t, runs.Load(), 3)
		if took := time.Since(start); took < time.Hour || took > time.Hour+10*time.Second {
			t.Errorf("the wait took %v", took)
		}
	})
}

func TestTaskWaitGoneEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, srv, rpcs := emulated(t)
		names := createTasks(t, srv, "emails", 1, time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		assert.ErrorIs(t, a.Tasks().WaitGone(ctx, names[0]), context.DeadlineExceeded)
		assert.NoError(t, a.Tasks().WaitGone(t.Context(), a.Tasks().Name("emails", "never-was")))
		rpcs.before = func(string, int, any) error { return status.Error(codes.PermissionDenied, "no") }
		assert.ErrorIs(t, a.Tasks().WaitGone(t.Context(), names[0]), admin.ErrPermission)
	})
}

func TestTaskList(t *testing.T) {
	t.Parallel()
	a, srv, rpcs := emulated(t)
	names := createTasks(t, srv, "emails", 1500, time.Hour)
	rpcs.made()
	seen := make(map[string]bool)
	for task, err := range a.Tasks().List(t.Context(), "emails", admin.Basic) {
		assert.NoError(t, err)
		seen[task.Name] = true
	}
	assert.Equal(t, len(seen), len(names))
	assert.Equal(t, rpcs.made(), map[string]int{"ListTasks": 2})
	for _, err := range a.Tasks().List(t.Context(), "missing", admin.Basic) {
		assert.ErrorIs(t, err, admin.ErrNotFound)
	}
}

// TestTaskPage shows that each page is one call and continues after the page
// before.
func TestTaskPage(t *testing.T) {
	t.Parallel()
	a, srv, rpcs := emulated(t)
	names := createTasks(t, srv, "emails", 25, time.Hour)
	rpcs.made()
	seen := make(map[string]bool)
	token, sizes := "", []int(nil)
	for {
		page, err := a.Tasks().Page(t.Context(), "emails", admin.Basic, 10, token)
		assert.NoError(t, err)
		for _, task := range page.Tasks {
			seen[task.Name] = true
		}
		sizes = append(sizes, len(page.Tasks))
		if token = page.Next; token == "" {
			break
		}
	}
	assert.Equal(t, sizes, []int{10, 10, 5})
	assert.Equal(t, len(seen), len(names))
	assert.Equal(t, rpcs.made(), map[string]int{"ListTasks": 3})

	for _, size := range []int{0, -1, 1001} {
		_, err := a.Tasks().Page(t.Context(), "emails", admin.Basic, size, "")
		assert.ErrorIs(t, err, admin.ErrInvalid)
	}
	_, err := a.Tasks().Page(t.Context(), "emails", admin.Basic, 10, "made up")
	assert.ErrorIs(t, err, admin.ErrInvalid)
	_, err = a.Tasks().Page(t.Context(), "missing", admin.Basic, 10, "")
	assert.ErrorIs(t, err, admin.ErrNotFound)
}

// endless is a queue with any number of tasks.
type endless struct {
	cloudtaskspb.UnimplementedCloudTasksServer
	tasks int
	pages atomic.Int64
}

func (s *endless) ListTasks(_ context.Context, req *cloudtaskspb.ListTasksRequest) (*cloudtaskspb.ListTasksResponse, error) {
	s.pages.Add(1)
	from, _ := strconv.Atoi(req.GetPageToken())
	to := min(from+int(req.GetPageSize()), s.tasks)
	resp := new(cloudtaskspb.ListTasksResponse)
	for i := from; i < to; i++ {
		resp.Tasks = append(resp.Tasks, &cloudtaskspb.Task{
			Name:          req.GetParent() + "/tasks/" + strconv.Itoa(i),
			DispatchCount: 2,
			ResponseCount: 1,
			MessageType:   &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{Url: "https://worker.test/tasks/welcome"}},
		})
	}
	if to < s.tasks {
		resp.NextPageToken = strconv.Itoa(to)
	}
	return resp, nil
}

// TestListOfManyTasks lists 100,000 tasks in a hundred pages. A page is
// requested only after the one before was consumed, so memory does not grow.
func TestListOfManyTasks(t *testing.T) {
	t.Parallel()
	srv := &endless{tasks: 100_000}
	a, _ := scripted(t, func(s *grpc.Server) { cloudtaskspb.RegisterCloudTasksServer(s, srv) })
	count := 0
	for _, err := range a.Tasks().List(t.Context(), "emails", admin.Basic) {
		assert.NoError(t, err)
		count++
		if pages := srv.pages.Load(); pages != int64(count-1)/1000+1 {
			t.Fatalf("%d pages were read for %d tasks", pages, count)
		}
	}
	assert.Equal(t, count, 100_000)

	srv.pages.Store(0)
	sum, err := a.Tasks().Executions(t.Context(), "emails")
	assert.NoError(t, err)
	assert.Equal(t, []int{sum.Tasks, sum.Dispatches, sum.Responses}, []int{100_000, 200_000, 100_000})
	assert.Equal(t, srv.pages.Load(), 100)
}

// TestListFailsHalfway shows that the tasks before a failure are yielded, and
// that the failure ends the list.
func TestListFailsHalfway(t *testing.T) {
	t.Parallel()
	srv := &endless{tasks: 5000}
	a, rpcs := scripted(t, func(s *grpc.Server) { cloudtaskspb.RegisterCloudTasksServer(s, srv) })
	rpcs.before = func(_ string, nth int, _ any) error {
		if nth == 3 {
			return status.Error(codes.ResourceExhausted, "600 list calls a minute")
		}
		return nil
	}
	tasks, failures := 0, 0
	for _, err := range a.Tasks().List(t.Context(), "emails", admin.Basic) {
		if err != nil {
			failures++
			assert.Equal(t, status.Code(err), codes.ResourceExhausted)
			continue
		}
		tasks++
	}
	assert.Equal(t, []int{tasks, failures}, []int{2000, 1})
	rpcs.made()
	sum, err := a.Tasks().Executions(t.Context(), "emails")
	assert.Equal(t, status.Code(err), codes.ResourceExhausted)
	assert.Equal(t, sum.Tasks, 2000)
}

// TestExecution follows a task through two failures, one of them without a
// response.
func TestExecution(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun, respond := make(chan struct{}), make(chan int)
		a, srv, _ := emulated(t, emulator.Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			begun <- struct{}{}
			select {
			case code := <-respond:
				w.WriteHeader(code)
			case <-r.Context().Done():
			}
		})})
		names := createTasks(t, srv, "emails", 1, 0)
		execution := func() admin.Execution {
			task, err := a.Tasks().Get(t.Context(), names[0], admin.Basic)
			assert.NoError(t, err)
			return task.Execution
		}
		<-begun
		synctest.Wait()
		e := execution()
		assert.Equal(t, []int{e.Dispatches, e.Responses}, []int{1, 0})
		assert.Equal(t, e.Running(), true)
		assert.Equal(t, e.FirstDispatchedAt.IsZero(), false)
		first := e.FirstDispatchedAt
		sum, err := a.Tasks().Executions(t.Context(), "emails")
		assert.NoError(t, err)
		assert.Equal(t, []int{sum.Tasks, sum.Untried, sum.Running}, []int{1, 0, 1})

		respond <- http.StatusBadGateway
		synctest.Wait()
		e = execution()
		assert.Equal(t, []int{e.Dispatches, e.Responses}, []int{1, 1})
		assert.Equal(t, e.Running(), false)
		assert.Equal(t, e.Last.Code, codes.Internal)
		assert.Equal(t, e.Last.Message, "INTERNAL(13): HTTP status code 502")
		assert.Equal(t, e.Last.RespondedAt.Before(e.Last.DispatchedAt), false)

		<-begun // the second dispatch, which gets no response in time
		time.Sleep(10*time.Minute + time.Millisecond)
		synctest.Wait()
		e = execution()
		assert.Equal(t, []int{e.Dispatches, e.Responses}, []int{2, 1})
		assert.Equal(t, e.Last.Code, codes.DeadlineExceeded)
		assert.Equal(t, e.FirstDispatchedAt, first)

		sum, err = a.Tasks().Executions(t.Context(), "emails")
		assert.NoError(t, err)
		assert.Equal(t, []int{sum.Tasks, sum.Untried, sum.Running, sum.Dispatches, sum.Responses}, []int{1, 0, 0, 2, 1})
		assert.Equal(t, sum.Failures, map[codes.Code]int{codes.DeadlineExceeded: 1})
		assert.Equal(t, sum.FirstDispatchedAt, first)
		assert.Equal(t, sum.LastDispatchedAt, e.Last.DispatchedAt)

		<-begun
		respond <- http.StatusOK
		assert.NoError(t, a.Tasks().WaitGone(t.Context(), names[0]))
		sum, err = a.Tasks().Executions(t.Context(), "emails")
		assert.NoError(t, err)
		assert.Equal(t, sum, admin.Executions{Failures: map[codes.Code]int{}})
	})
}

func TestExecutionsOfAQueue(t *testing.T) {
	t.Parallel()
	a, srv, _ := emulated(t)
	createTasks(t, srv, "emails", 10, time.Hour)
	sum, err := a.Tasks().Executions(t.Context(), "emails")
	assert.NoError(t, err)
	assert.Equal(t, []int{sum.Tasks, sum.Untried}, []int{10, 10})
	assert.Equal(t, sum.OldestCreatedAt.After(time.Now()), false)
	if in := time.Until(sum.NextScheduledAt); in < 59*time.Minute || in > time.Hour {
		t.Errorf("the next is due in %v", in)
	}
	_, err = a.Tasks().Executions(t.Context(), "missing")
	assert.ErrorIs(t, err, admin.ErrNotFound)
}
