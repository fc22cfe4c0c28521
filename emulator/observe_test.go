package emulator_test

import (
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

// TestActivity: each dispatch is counted in its second, by its outcome, for five
// minutes.
func TestActivity(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, emulator.Config{}, 404, 503, 200)
		start := time.Now()
		a, ok := s.srv.Activity(emails)
		assert.Equal(t, []any{ok, a.Since.Equal(start), len(a.Seconds)}, []any{true, true, 0})

		s.update(&cloudtaskspb.Queue{RetryConfig: &cloudtaskspb.RetryConfig{MinBackoff: durationpb.New(2 * time.Second), MaxBackoff: durationpb.New(2 * time.Second)}})
		s.pause()
		s.create()
		time.Sleep(1500 * time.Millisecond)
		s.resume()
		s.wait()
		a, _ = s.srv.Activity("emails")
		want := []emulator.Second{
			{At: start.Add(1 * time.Second), Dispatched: 1, LagSum: 1500 * time.Millisecond, LagMax: 1500 * time.Millisecond, Refused: 1},
			{At: start.Add(3 * time.Second), Dispatched: 1, Failed: 1},
			{At: start.Add(5 * time.Second), Dispatched: 1, Succeeded: 1},
		}
		assert.Equal(t, len(a.Seconds), len(want))
		for i := range want {
			assert.Equal(t, a.Seconds[i].At.Equal(want[i].At), true)
			a.Seconds[i].At = want[i].At
			assert.Equal(t, a.Seconds[i], want[i])
		}

		time.Sleep(297 * time.Second) // 302.5 s from the start
		a, _ = s.srv.Activity(emails)
		assert.Equal(t, []any{len(a.Seconds), a.Since.Equal(start.Add(3 * time.Second))}, []any{2, true})
		_, ok = s.srv.Activity("missing")
		assert.Equal(t, ok, false)
	})
}

// TestLife: the history of a task, for each way to end.
func TestLife(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, emulator.Config{}, 200, 500, 500, 500, 500)
		s.update(&cloudtaskspb.Queue{RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: 2}})
		start := time.Now()
		succeeded := s.create(withBody).GetName()
		s.wait()
		givenUp := s.create(withBody).GetName()
		s.wait()

		s.update(&cloudtaskspb.Queue{RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: -1, MinBackoff: durationpb.New(time.Hour)}})
		deleted := s.create(withBody).GetName()
		synctest.Wait()
		l, ok := s.srv.Life(deleted)
		assert.Equal(t, []any{ok, l.Ended.IsZero(), l.End, len(l.Dispatches), l.Target}, []any{true, true, emulator.End(""), 1, "https://worker.example/send"})
		_, err := s.client.RunTask(s.Context(), &cloudtaskspb.RunTaskRequest{Name: deleted})
		assert.NoError(t, err)
		synctest.Wait()
		assert.NoError(t, s.client.DeleteTask(s.Context(), &cloudtaskspb.DeleteTaskRequest{Name: deleted}))

		ends := s.srv.Ended("emails", 10)
		var names []string
		for _, l := range ends {
			names = append(names, l.Name)
		}
		assert.Equal(t, names, []string{deleted, givenUp, succeeded})
		for i, want := range []struct {
			end        emulator.End
			dispatches int
		}{{emulator.Deleted, 2}, {emulator.GivenUp, 2}, {emulator.Succeeded, 1}} {
			l, ok := s.srv.Life(names[i])
			assert.Equal(t, ok, true)
			assert.Equal(t, []any{l.Task.GetName(), string(l.Task.GetHttpRequest().GetBody()), int(l.Task.GetDispatchCount())}, []any{names[i], "body", want.dispatches})
			l.Task = nil
			assert.Equal(t, l, ends[i])
			assert.Equal(t, []any{l.End, l.DispatchCount, len(l.Dispatches), l.Created.Before(start), l.Ended.IsZero()}, []any{want.end, want.dispatches, want.dispatches, false, false})
		}
		assert.Equal(t, len(s.srv.Ended("emails", 2)), 2)
		_, ok = s.srv.Life(emails + "/tasks/missing")
		assert.Equal(t, ok, false)
	})
}

func withBody(t *cloudtaskspb.Task) { t.GetHttpRequest().Body = []byte("body") }

// TestFailing groups the tasks that wait for a retry by their targets.
func TestFailing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, emulator.Config{}, 500, 503, 404, 200)
		s.update(&cloudtaskspb.Queue{RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: -1, MinBackoff: durationpb.New(time.Hour)}})
		var names []string
		for _, url := range []string{"https://worker.example/a", "https://worker.example/a", "https://worker.example/b", "https://worker.example/c"} {
			task := s.create(func(t *cloudtaskspb.Task) { t.GetHttpRequest().Url = url })
			names = append(names, task.GetName())
			synctest.Wait()
			time.Sleep(time.Second)
		}
		failing := s.srv.Failing("emails")
		assert.Equal(t, len(failing), 2)
		assert.Equal(t, []any{failing[0].Target, failing[0].Tasks, failing[0].Last.Name, failing[0].Last.Dispatches[0].Status}, []any{"https://worker.example/a", 2, names[1], 503})
		assert.Equal(t, []any{failing[1].Target, failing[1].Tasks, failing[1].Last.Task.GetName()}, []any{"https://worker.example/b", 1, names[2]})
		assert.Equal(t, len(s.srv.Failing("missing")), 0)
	})
}
