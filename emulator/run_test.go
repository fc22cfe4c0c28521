package emulator_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

func (s *setup) run(name string) *cloudtaskspb.Task {
	s.Helper()
	task, err := s.client.RunTask(s.Context(), &cloudtaskspb.RunTaskRequest{Name: name})
	assert.NoError(s, err)
	return task
}

func inAnHour(task *cloudtaskspb.Task) {
	task.ScheduleTime = timestamppb.New(time.Now().Add(time.Hour))
}

// steady makes every retry wait a minute.
func (s *setup) steady() {
	s.Helper()
	s.update(&cloudtaskspb.Queue{RetryConfig: &cloudtaskspb.RetryConfig{
		MinBackoff: durationpb.New(time.Minute), MaxBackoff: durationpb.New(time.Minute),
	}})
}

func TestRunTask(t *testing.T) {
	t.Parallel()
	bubble := func(name string, test func(*testing.T)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, test)
		})
	}
	bubble("runs a task of a paused queue ahead of its time, and deletes it", func(t *testing.T) {
		s := begin(t, emulator.Config{})
		s.pause()
		task := s.create(inAnHour)
		got := s.run(task.GetName())
		assert.Equal(t, got.GetDispatchCount(), int32(1))
		assert.Equal(t, got.GetResponseCount(), int32(0))
		assert.Equal(t, got.GetLastAttempt().GetResponseStatus() == nil, true)
		synctest.Wait()
		assert.Equal(t, len(s.worker.deliveries()), 1)
		assert.Equal(t, len(s.srv.Tasks("emails")), 0)
	})
	bubble("after a failure the wait counts from the call", func(t *testing.T) {
		s := begin(t, emulator.Config{}, 500)
		s.steady()
		s.worker.before = func(n int, _ *http.Request) {
			if n == 1 {
				time.Sleep(40 * time.Second)
			}
		}
		task := s.create(inAnHour)
		start := time.Now()
		s.run(task.GetName())
		s.wait()
		got := s.worker.deliveries()
		assert.Equal(t, len(got), 2)
		assert.Equal(t, got[1].at.Sub(start), time.Minute)
	})
	bubble("ignores the limits of the queue", func(t *testing.T) {
		s := begin(t, emulator.Config{})
		s.update(&cloudtaskspb.Queue{RateLimits: &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 0.001, MaxConcurrentDispatches: 1}})
		for range 30 {
			s.run(s.create(inAnHour).GetName())
		}
		synctest.Wait()
		assert.Equal(t, len(s.worker.deliveries()), 30)
	})
	bubble("runs beside a dispatch; success of either ends the task", func(t *testing.T) {
		s := begin(t, emulator.Config{}, 200, 500)
		s.worker.before = func(n int, _ *http.Request) { time.Sleep(time.Duration(n) * time.Minute) }
		task := s.create()
		synctest.Wait()
		s.run(task.GetName())
		synctest.Wait()
		assert.Equal(t, len(s.worker.deliveries()), 2) // both under way
		s.wait()
		assert.Equal(t, len(s.worker.deliveries()), 2) // the failure of the second does not bring the task back
		assert.Equal(t, len(s.srv.Tasks("emails")), 0)
	})
	bubble("runs beside a dispatch; while one runs, no third begins", func(t *testing.T) {
		s := begin(t, emulator.Config{}, 500, 500)
		s.worker.before = func(n int, _ *http.Request) { time.Sleep(time.Duration(3-n) * time.Minute) }
		task := s.create()
		synctest.Wait()
		start := time.Now()
		s.run(task.GetName())
		s.wait()
		got := s.worker.deliveries()
		assert.Equal(t, len(got), 3)
		// The first dispatch ended last, after two minutes: the second wait of
		// the backoff counts from there.
		assert.Equal(t, got[2].at.Sub(start), 2*time.Minute+200*time.Millisecond)
	})
	bubble("counts toward max_attempts", func(t *testing.T) {
		s := begin(t, emulator.Config{}, 500, 500, 500)
		s.update(&cloudtaskspb.Queue{RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: 2}})
		s.run(s.create(inAnHour).GetName())
		s.wait()
		got := s.worker.deliveries()
		assert.Equal(t, len(got), 2)
		assert.Equal(t, got[1].header.Get("X-CloudTasks-TaskRetryCount"), "1")
	})
}

// A dispatch in flight runs to its end although its task is deleted or purged, and
// its outcome has no effect.
func TestDeleteWhileRunning(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(*setup, string) error{
		"DeleteTask": func(s *setup, task string) error {
			return s.client.DeleteTask(s.Context(), &cloudtaskspb.DeleteTaskRequest{Name: task})
		},
		"PurgeQueue": func(s *setup, _ string) error {
			_, err := s.client.PurgeQueue(s.Context(), &cloudtaskspb.PurgeQueueRequest{Name: emails})
			return err
		},
		"DeleteQueue": func(s *setup, _ string) error {
			return s.client.DeleteQueue(s.Context(), &cloudtaskspb.DeleteQueueRequest{Name: emails})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := begin(t, emulator.Config{}, 500)
				ended := false
				s.worker.before = func(_ int, r *http.Request) {
					time.Sleep(time.Minute)
					ended = r.Context().Err() == nil
				}
				task := s.create()
				synctest.Wait()
				assert.NoError(t, remove(s, task.GetName()))
				time.Sleep(time.Hour)
				synctest.Wait()
				assert.Equal(t, ended, true)
				assert.Equal(t, len(s.worker.deliveries()), 1)
			})
		})
	}
}
