package dashboard_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"

	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/dashboard"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

// metered is a source of a queue of n tasks that counts its calls.
type metered struct {
	*dashboard.AdminSource

	mu    sync.Mutex
	calls map[string]int
}

func newMetered(t testing.TB, n int, config dashboard.AdminSourceConfig) *metered {
	t.Helper()
	srv := emulator.RunT(t)
	m := &metered{calls: make(map[string]int)}
	count := func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		m.mu.Lock()
		m.calls[method[strings.LastIndexByte(method, '/')+1:]]++
		m.mu.Unlock()
		return invoke(ctx, method, req, reply, conn, opts...)
	}
	var err error
	config.Admin, err = admin.New(t.Context(), admin.Config{
		Project: project, Location: location,
		Options: append(srv.ClientOptions(), option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(count))),
	})
	assert.NoError(t, err)
	t.Cleanup(func() { _ = config.Admin.Close() })
	_, err = config.Admin.Queues().Create(t.Context(), admin.QueueConfig{ID: "emails"})
	assert.NoError(t, err)
	_, err = config.Admin.Queues().Pause(t.Context(), "emails")
	assert.NoError(t, err)
	fill(t, cloudtaskspb.NewCloudTasksClient(srv.Conn()), n)
	m.AdminSource, err = dashboard.NewAdminSource(config)
	assert.NoError(t, err)
	m.made()
	return m
}

// fill creates tasks named task-000000 and so on.
func fill(t testing.TB, api cloudtaskspb.CloudTasksClient, n int) {
	t.Helper()
	for from := 0; from < n; from += 100 {
		req := &cloudtaskspb.BatchCreateTasksRequest{Parent: emails}
		for i := from; i < min(from+100, n); i++ {
			req.Requests = append(req.Requests, &cloudtaskspb.CreateTaskRequest{Parent: emails, Task: &cloudtaskspb.Task{
				Name:        fmt.Sprintf("%s/tasks/task-%06d", emails, i),
				MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{Url: "https://worker.test/tasks/x"}},
			}})
		}
		_, err := api.BatchCreateTasks(t.Context(), req)
		assert.NoError(t, err)
	}
}

// made returns the calls since it was last called.
func (m *metered) made() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	calls := m.calls
	m.calls = make(map[string]int)
	return calls
}

func query(change func(*dashboard.TaskQuery)) dashboard.TaskQuery {
	q := dashboard.TaskQuery{Queue: emails, Limit: 50}
	if change != nil {
		change(&q)
	}
	return q
}

// A request of a search reads at most five pages; the next one continues.
func TestSearchKeepsToFivePages(t *testing.T) {
	t.Parallel()
	m := newMetered(t, 7200, dashboard.AdminSourceConfig{})
	q := query(func(q *dashboard.TaskQuery) { q.Text = "TASK-007100" })
	page, err := m.Tasks(t.Context(), q)
	assert.NoError(t, err)
	assert.Equal(t, []int{len(page.Tasks), page.Looked}, []int{0, 5000})
	assert.Equal(t, m.made(), map[string]int{"ListTasks": 5})
	q.Cursor = page.Next
	page, err = m.Tasks(t.Context(), q)
	assert.NoError(t, err)
	assert.Equal(t, []int{len(page.Tasks), page.Looked}, []int{1, 2200})
	assert.Equal(t, page.Next, "")
	assert.Equal(t, m.made(), map[string]int{"ListTasks": 3})
}

// The pages of a search have every match once.
func TestSearchIsPaged(t *testing.T) {
	t.Parallel()
	for _, unmetered := range []bool{false, true} {
		m := newMetered(t, 2500, dashboard.AdminSourceConfig{Unmetered: unmetered})
		q := query(func(q *dashboard.TaskQuery) { q.Text, q.Limit = "7", 40 }) // a third or so of them
		want := 0
		for i := range 2500 {
			if strings.Contains(fmt.Sprintf("%06d", i), "7") {
				want++
			}
		}
		seen := make(map[string]bool)
		for pages := 0; pages == 0 || q.Cursor != ""; pages++ {
			page, err := m.Tasks(t.Context(), q)
			assert.NoError(t, err)
			for _, task := range page.Tasks {
				if seen[task.Name] {
					t.Fatalf("%s came twice", task.Name)
				}
				seen[task.Name] = true
			}
			q.Cursor = page.Next
		}
		assert.Equal(t, len(seen), want)
	}
}

// Many open pages share their list calls.
func TestWatchersShareCalls(t *testing.T) {
	t.Parallel()
	m := newMetered(t, 10, dashboard.AdminSourceConfig{})
	var watchers sync.WaitGroup
	for range 20 {
		watchers.Go(func() {
			_, tasksErr := m.Tasks(t.Context(), query(nil))
			_, queuesErr := m.Queues(t.Context())
			if err := errors.Join(tasksErr, queuesErr); err != nil {
				t.Error(err)
			}
		})
	}
	watchers.Wait()
	assert.Equal(t, m.made(), map[string]int{"ListTasks": 1, "ListQueues": 1})

	// A change empties the cache.
	assert.NoError(t, m.Delete(t.Context(), emails+"/tasks/task-000000"))
	page, err := m.Tasks(t.Context(), query(nil))
	assert.NoError(t, err)
	assert.Equal(t, len(page.Tasks), 9)
	assert.NoError(t, m.Resume(t.Context(), emails))
	queues, err := m.Queues(t.Context())
	assert.NoError(t, err)
	assert.Equal(t, queues[0].State, admin.Running)
}

// Without budget the service is not called, and the error says so. What is cached
// is still shown.
func TestBudget(t *testing.T) {
	t.Parallel()
	m := newMetered(t, 300, dashboard.AdminSourceConfig{ListsPerMinute: 2})
	first, err := m.Tasks(t.Context(), query(nil))
	assert.NoError(t, err)
	second := query(func(q *dashboard.TaskQuery) { q.Cursor = first.Next })
	_, err = m.Tasks(t.Context(), second)
	assert.NoError(t, err)
	m.made()
	_, err = m.Tasks(t.Context(), query(func(q *dashboard.TaskQuery) { q.Limit = 49 }))
	assert.ErrorIs(t, err, dashboard.ErrBudget)
	_, err = m.Queues(t.Context())
	assert.ErrorIs(t, err, dashboard.ErrBudget)
	_, err = m.Tasks(t.Context(), query(func(q *dashboard.TaskQuery) { q.Text = "x" }))
	assert.ErrorIs(t, err, dashboard.ErrBudget)
	_, err = m.Tasks(t.Context(), second)
	assert.NoError(t, err)
	assert.Equal(t, m.made(), map[string]int{})
}

// Without a limit nothing is cached.
func TestUnmetered(t *testing.T) {
	t.Parallel()
	m := newMetered(t, 10, dashboard.AdminSourceConfig{Unmetered: true})
	for range 200 {
		_, err := m.Tasks(t.Context(), query(nil))
		assert.NoError(t, err)
	}
	assert.Equal(t, m.made(), map[string]int{"ListTasks": 200})
}
