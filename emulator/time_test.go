package emulator_test

import (
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

const day = 24 * time.Hour

func (s *setup) pause() {
	s.Helper()
	_, err := s.client.PauseQueue(s.Context(), &cloudtaskspb.PauseQueueRequest{Name: emails})
	assert.NoError(s, err)
}

func (s *setup) resume() {
	s.Helper()
	_, err := s.client.ResumeQueue(s.Context(), &cloudtaskspb.ResumeQueueRequest{Name: emails})
	assert.NoError(s, err)
}

// A task a day ahead that fails three times and then succeeds, through the
// real client over gRPC.
func TestADayInMilliseconds(t *testing.T) {
	t.Parallel()
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, emulator.Config{}, 500, 500, 500)
		start := time.Now()
		task := s.create(func(task *cloudtaskspb.Task) { task.ScheduleTime = timestamppb.New(start.Add(day)) })
		s.wait()
		var after []time.Duration
		for _, d := range s.worker.deliveries() {
			after = append(after, d.at.Sub(start))
		}
		const ms = time.Millisecond
		assert.Equal(t, after, []time.Duration{day, day + 100*ms, day + 300*ms, day + 700*ms})
		dispatches := s.srv.Dispatches(task.GetName())
		assert.Equal(t, len(dispatches), 4)
		assert.Equal(t, dispatches[0].Status, 500)
		assert.Equal(t, dispatches[3].Status, 200)
		assert.Equal(t, len(s.srv.Tasks("emails")), 0)
	})
	t.Logf("took %v", time.Since(began))
}

// A task is deleted 31 days after its creation, whatever its state.
func TestRetention(t *testing.T) {
	t.Parallel()
	t.Run("a task of a paused queue", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := begin(t, emulator.Config{})
			s.pause()
			s.create()
			time.Sleep(day)
			s.create()
			time.Sleep(30*day - time.Second)
			synctest.Wait()
			assert.Equal(t, len(s.srv.Tasks("emails")), 2)
			time.Sleep(time.Second)
			synctest.Wait()
			assert.Equal(t, len(s.srv.Tasks("emails")), 1)
			time.Sleep(day)
			synctest.Wait()
			assert.Equal(t, len(s.srv.Tasks("emails")), 0)
			assert.Equal(t, len(s.worker.deliveries()), 0)
		})
	})
	t.Run("a task that fails for ever", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := begin(t, emulator.Config{})
			s.srv.InjectDispatch(emulator.DispatchFault{Status: 500})
			s.update(&cloudtaskspb.Queue{RetryConfig: &cloudtaskspb.RetryConfig{
				MaxAttempts: -1, MinBackoff: durationpb.New(time.Hour), MaxBackoff: durationpb.New(time.Hour),
			}})
			start := time.Now()
			task := s.create()
			s.wait()
			assert.Equal(t, time.Since(start), 31*day)
			_, err := s.client.GetTask(t.Context(), &cloudtaskspb.GetTaskRequest{Name: task.GetName()})
			assert.Equal(t, status.Code(err), codes.NotFound)
			// Of 744 dispatches, the last hundred are kept.
			assert.Equal(t, len(s.srv.Dispatches(task.GetName())), 100)
		})
	})
	t.Run("a dispatch that is running", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := begin(t, emulator.Config{Retention: time.Minute})
			s.srv.InjectDispatch(emulator.DispatchFault{Delay: 2 * time.Minute, Status: 500})
			s.create()
			time.Sleep(time.Minute)
			synctest.Wait()
			assert.Equal(t, len(s.srv.Tasks("emails")), 0)
			s.wait() // its failure does not bring the task back
			assert.Equal(t, len(s.srv.Tasks("emails")), 0)
		})
	})
}

// The name of a task is reserved from its end, for TaskWindow.
func TestTaskWindow(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ config, want time.Duration }{
		"the default":                 {0, day},
		"as for queue.yaml's queues":  {9 * day, 9 * day},
		"as the beta has it at least": {time.Hour, time.Hour},
		"not at all":                  {-1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := begin(t, emulator.Config{TaskWindow: row.config})
				named := func(task *cloudtaskspb.Task) { task.Name = emails + "/tasks/order-1" }
				later := func(task *cloudtaskspb.Task) { task.ScheduleTime = timestamppb.New(time.Now().Add(5 * day)) }
				s.create(named, later)
				s.wait()
				if row.want > 0 {
					time.Sleep(row.want - time.Nanosecond)
					_, err := s.tryCreate(named)
					assert.Equal(t, status.Code(err), codes.AlreadyExists)
					time.Sleep(time.Nanosecond)
				}
				s.create(named)
			})
		})
	}
}

// The name of a queue is reserved from its deletion.
func TestQueueWindow(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ config, want time.Duration }{
		"the default": {0, 7 * day},
		"three days":  {3 * day, 3 * day},
		"not at all":  {-1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := begin(t, emulator.Config{QueueWindow: row.config})
				assert.NoError(t, s.client.DeleteQueue(t.Context(), &cloudtaskspb.DeleteQueueRequest{Name: emails}))
				if row.want > 0 {
					time.Sleep(row.want - time.Nanosecond)
					_, err := s.client.UpdateQueue(t.Context(), &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{Name: emails}})
					assert.Equal(t, status.Code(err), codes.FailedPrecondition)
					time.Sleep(time.Nanosecond)
				}
				s.createQueue(&cloudtaskspb.Queue{Name: emails})
			})
		})
	}
}

// 99 retries of a default queue: the sum that docs/cloud-tasks.md#7.2 gives.
func TestDefaultBackoff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, emulator.Config{})
		s.srv.InjectDispatch(emulator.DispatchFault{Status: 500})
		start := time.Now()
		task := s.create()
		s.wait()
		assert.Equal(t, time.Since(start), 305353500*time.Millisecond)
		assert.Equal(t, len(s.srv.Dispatches(task.GetName())), 100)
	})
}
