package admin_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

// TestQueueDefaults shows the defaults as they are sent to the service.
func TestQueueDefaults(t *testing.T) {
	t.Parallel()
	a, srv, _ := emulated(t)
	queue, err := a.Queues().Create(t.Context(), admin.QueueConfig{ID: "api-tasks"})
	assert.NoError(t, err)

	got := srv.Queues()[0]
	assert.Equal(t, got.GetName(), parent+"/queues/api-tasks")
	assert.Equal(t, got.GetRateLimits().GetMaxDispatchesPerSecond(), 100)
	assert.Equal(t, got.GetRateLimits().GetMaxConcurrentDispatches(), 500)
	assert.Equal(t, got.GetRetryConfig().GetMaxAttempts(), 5)
	assert.Equal(t, got.GetRetryConfig().GetMinBackoff().AsDuration(), time.Second)
	assert.Equal(t, got.GetRetryConfig().GetMaxBackoff().AsDuration(), time.Hour)
	assert.Equal(t, got.GetRetryConfig().GetMaxDoublings(), 16)

	assert.Equal(t, queue.Name, got.GetName())
	assert.Equal(t, queue.State, admin.Running)
	assert.Equal(t, queue.MaxBurst, 20)
	assert.Equal(t, queue.Config.MaxConcurrentDispatches, 500)
}

func TestQueueLifecycle(t *testing.T) {
	t.Parallel()
	a, _, _ := emulated(t)
	queues, ctx := a.Queues(), t.Context()

	_, err := queues.Get(ctx, "emails")
	assert.ErrorIs(t, err, admin.ErrNotFound)
	_, err = queues.Create(ctx, admin.QueueConfig{ID: "emails", MaxDispatchesPerSecond: 0.5})
	assert.NoError(t, err)
	_, err = queues.Create(ctx, admin.QueueConfig{ID: "emails"})
	assert.ErrorIs(t, err, admin.ErrAlreadyExists)

	queue, err := queues.Get(ctx, "emails")
	assert.NoError(t, err)
	assert.Equal(t, queue.Config.MaxDispatchesPerSecond, 0.5)
	assert.Equal(t, queue.PurgedAt.IsZero(), true)

	for range 2 { // pausing twice is no error
		queue, err = queues.Pause(ctx, "emails")
		assert.NoError(t, err)
		assert.Equal(t, queue.State, admin.Paused)
	}
	queue, err = queues.Resume(ctx, "emails")
	assert.NoError(t, err)
	assert.Equal(t, queue.State, admin.Running)

	queue, err = queues.Purge(ctx, "emails")
	assert.NoError(t, err)
	assert.Equal(t, queue.PurgedAt.IsZero(), false)

	assert.NoError(t, queues.Delete(ctx, "emails"))
	assert.ErrorIs(t, queues.Delete(ctx, "emails"), admin.ErrNotFound)
	_, err = queues.Create(ctx, admin.QueueConfig{ID: "emails"})
	assert.ErrorIs(t, err, admin.ErrTombstoned)
	tombstoned, _ := errors.AsType[*admin.TombstonedError](err)
	assert.Equal(t, tombstoned.Queue, "emails")
	assert.Equal(t, tombstoned.Wait, 7*24*time.Hour)
	assert.ErrorContains(t, err, `admin: create queue "emails"`, "wait until up to 7 days", "existed too recently.")
}

func TestQueueList(t *testing.T) {
	t.Parallel()
	a, _, rpcs := emulated(t)
	queues, ctx := a.Queues(), t.Context()
	for _, id := range []string{"c", "a", "b"} {
		_, err := queues.Create(ctx, admin.QueueConfig{ID: id})
		assert.NoError(t, err)
	}
	_, err := queues.Pause(ctx, "b")
	assert.NoError(t, err)
	rpcs.made()

	assert.Equal(t, ids(t, queues.List(ctx, admin.ListQueues{})), []string{"a", "b", "c"})
	assert.Equal(t, rpcs.made(), map[string]int{"ListQueues": 1})
	for queue, err := range queues.List(ctx, admin.ListQueues{}) {
		assert.NoError(t, err)
		assert.Equal(t, queue.Config.ID, "a")
		break
	}
}

func TestQueueListFilter(t *testing.T) {
	t.Parallel()
	a, _, _ := emulated(t)
	queues, ctx := a.Queues(), t.Context()
	for _, id := range []string{"a", "b"} {
		_, err := queues.Create(ctx, admin.QueueConfig{ID: id})
		assert.NoError(t, err)
	}
	_, err := queues.Pause(ctx, "b")
	assert.NoError(t, err)

	assert.Equal(t, ids(t, queues.List(ctx, admin.ListQueues{Filter: "state: PAUSED"})), []string{"b"})
	for _, err := range queues.List(ctx, admin.ListQueues{Filter: "nonsense = "}) {
		assert.ErrorIs(t, err, admin.ErrInvalid)
	}
}

func ids(t *testing.T, list func(func(admin.Queue, error) bool)) []string {
	t.Helper()
	var ids []string
	for queue, err := range list {
		assert.NoError(t, err)
		ids = append(ids, queue.Config.ID)
	}
	return ids
}

// TestIDsAreChecked shows that a full name or an empty ID is refused without a
// call.
func TestIDsAreChecked(t *testing.T) {
	t.Parallel()
	a, _, rpcs := emulated(t)
	for name, do := range calls(a, "projects/p/locations/l/queues/q", "q/tasks/t") {
		t.Run(name, func(t *testing.T) {
			err := do(t.Context())
			assert.ErrorIs(t, err, admin.ErrInvalid)
			found, ok := errors.AsType[*admin.InvalidError](err)
			assert.Equal(t, ok && slices.Contains([]string{"queue", "QueueConfig.ID", "task"}, found.Field), true)
			assert.Equal(t, rpcs.made(), map[string]int{})
		})
	}
}

// calls returns all methods that take a queue or a task.
func calls(a *admin.Admin, queue, task string) map[string]func(context.Context) error {
	queues, tasks := a.Queues(), a.Tasks()
	return map[string]func(context.Context) error{
		"CreateQueue": func(ctx context.Context) error {
			_, err := queues.Create(ctx, admin.QueueConfig{ID: queue})
			return err
		},
		"beta.CreateQueue": func(ctx context.Context) error {
			_, err := queues.Create(ctx, admin.QueueConfig{ID: queue, TaskTTL: 240 * time.Hour})
			return err
		},
		"GetQueue":      func(ctx context.Context) error { _, err := queues.Get(ctx, queue); return err },
		"beta.GetQueue": func(ctx context.Context) error { _, err := queues.Inspect(ctx, queue); return err },
		"PauseQueue":    func(ctx context.Context) error { _, err := queues.Pause(ctx, queue); return err },
		"ResumeQueue":   func(ctx context.Context) error { _, err := queues.Resume(ctx, queue); return err },
		"PurgeQueue":    func(ctx context.Context) error { _, err := queues.Purge(ctx, queue); return err },
		"DeleteQueue":   func(ctx context.Context) error { return queues.Delete(ctx, queue) },
		"ListTasks": func(ctx context.Context) error {
			for _, err := range tasks.List(ctx, queue, admin.Full) {
				return err
			}
			return nil
		},
		"GetTask":    func(ctx context.Context) error { _, err := tasks.Get(ctx, task, admin.Full); return err },
		"DeleteTask": func(ctx context.Context) error { return tasks.Delete(ctx, task) },
		"RunTask":    func(ctx context.Context) error { _, err := tasks.RunNow(ctx, task); return err },
		"BatchDeleteTasks": func(ctx context.Context) error {
			for _, err := range tasks.DeleteMany(ctx, slices.Values([]string{task})) {
				return err
			}
			return nil
		},
	}
}

// TestWaitPurged: the service still lists tasks from before the purge for a while.
func TestWaitPurged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, srv, rpcs := emulated(t)
		createTasks(t, srv, "emails", 3, time.Hour)
		time.Sleep(2 * time.Second) // creation times have whole seconds
		var purged time.Time
		rpcs.after = func(method string, _ int, reply any) error {
			if method == "GetQueue" {
				setPurgeTime(reply, purged)
			}
			return nil
		}
		assert.NoError(t, a.Queues().WaitPurged(t.Context(), "emails")) // never purged: nothing to wait for

		purged = time.Now()
		rpcs.before = func(method string, _ int, _ any) error {
			if method == "ListTasks" && time.Since(purged) > 40*time.Second {
				_, err := a.Queues().Purge(context.WithoutCancel(t.Context()), "emails")
				return err
			}
			return nil
		}
		assert.NoError(t, a.Queues().WaitPurged(t.Context(), "emails"))
		if took := time.Since(purged); took < 40*time.Second || took > time.Minute {
			t.Errorf("the purge took 40s, the wait %v", took)
		}
	})
}

// TestWaitPurgedSparesTheNew: WaitPurged does not wait for a task created in the
// second of the purge, because it may be newer than the purge.
func TestWaitPurgedSparesTheNew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, srv, rpcs := emulated(t)
		time.Sleep(300 * time.Millisecond)
		createTasks(t, srv, "emails", 1, time.Hour)
		rpcs.after = func(method string, _ int, reply any) error {
			if method == "GetQueue" {
				setPurgeTime(reply, time.Now())
			}
			return nil
		}
		start := time.Now()
		assert.NoError(t, a.Queues().WaitPurged(t.Context(), "emails"))
		assert.Equal(t, time.Since(start), 0)
	})
}

func TestWaitPurgedEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, srv, rpcs := emulated(t)
		createTasks(t, srv, "emails", 1, time.Hour)
		time.Sleep(2 * time.Second)
		rpcs.after = func(method string, _ int, reply any) error {
			if method == "GetQueue" {
				setPurgeTime(reply, time.Now())
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		assert.ErrorIs(t, a.Queues().WaitPurged(ctx, "emails"), context.DeadlineExceeded)
		assert.ErrorIs(t, a.Queues().WaitPurged(t.Context(), "missing"), admin.ErrNotFound)
	})
}

// TestDeadlines shows that a context of an hour does not reach the service,
// which would refuse it.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	srv := emulator.RunT(t)
	createTasks(t, srv, "emails", 1, time.Hour)
	a, _ := newAdmin(t, srv.ClientOptions())
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for name, do := range calls(a, "other", a.Tasks().Name("emails", "gone")) {
		t.Run(name, func(t *testing.T) {
			if err := do(ctx); status.Code(err) == codes.InvalidArgument {
				t.Error(err)
			}
		})
	}
}
