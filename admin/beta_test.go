package admin_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	betapb "cloud.google.com/go/cloudtasks/apiv2beta3/cloudtaskspb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

// listen records the masks of the updates and the filters of the lists that are
// sent through v2beta3, and how often statistics are asked for.
func listen(rpcs *tap) (masks *[][]string, filters *[]string, stats *int) {
	masks, filters, stats = new([][]string), new([]string), new(int)
	count := func(paths []string) {
		for _, path := range paths {
			if path == "stats" {
				*stats++
			}
		}
	}
	rpcs.before = func(_ string, _ int, req any) error {
		switch req := req.(type) {
		case *betapb.UpdateQueueRequest:
			*masks = append(*masks, req.GetUpdateMask().GetPaths())
		case *betapb.ListQueuesRequest:
			*filters = append(*filters, req.GetFilter())
			count(req.GetReadMask().GetPaths())
		case *betapb.GetQueueRequest:
			count(req.GetReadMask().GetPaths())
		}
		return nil
	}
	return masks, filters, stats
}

// TestStats reads the statistics of a queue that has one finished task, one in
// flight and one due tomorrow.
func TestStats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		a, srv, rpcs := emulated(t, emulator.Config{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hold" {
				<-hold
			}
		})})
		defer close(hold)
		_, filters, asked := listen(rpcs)
		queues, ctx := a.Queues(), t.Context()
		_, err := queues.Create(ctx, admin.QueueConfig{ID: "emails", MaxDispatchesPerSecond: 12.5, TombstoneTTL: 25 * time.Hour})
		assert.NoError(t, err)
		tomorrow := time.Now().Add(24 * time.Hour).UTC()
		client, err := cloudtasks.NewClient(ctx, srv.ClientOptions()...)
		assert.NoError(t, err)
		defer client.Close()
		for path, due := range map[string]time.Time{"/": {}, "/hold": {}, "/tomorrow": tomorrow} {
			task := &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{Url: "http://worker.test" + path}}}
			if !due.IsZero() {
				task.ScheduleTime = timestamppb.New(due)
			}
			_, err := client.CreateTask(ctx, &cloudtaskspb.CreateTaskRequest{Parent: parent + "/queues/emails", Task: task})
			assert.NoError(t, err)
		}
		synctest.Wait()
		rpcs.made()

		queue, err := queues.Inspect(ctx, "emails")
		assert.NoError(t, err)
		want := admin.Stats{Tasks: 2, OldestArrival: tomorrow, ExecutedLastMinute: 1, ConcurrentDispatches: 1, EffectiveRate: 12.5}
		assert.Equal(t, *queue.Stats, want)
		assert.Equal(t, queue.Config.TaskTTL, 31*24*time.Hour)
		assert.Equal(t, queue.Config.TombstoneTTL, 25*time.Hour)
		listed := 0
		for queue, err := range queues.List(ctx, admin.ListQueues{Filter: "state: RUNNING", Stats: true}) {
			assert.NoError(t, err)
			assert.Equal(t, *queue.Stats, want)
			listed++
		}
		assert.Equal(t, listed, 1)
		assert.Equal(t, rpcs.made(), map[string]int{"beta.GetQueue": 1, "beta.ListQueues": 1})
		assert.Equal(t, *filters, []string{"state: RUNNING"})
		assert.Equal(t, *asked, 2)
		_, err = queues.Inspect(ctx, "missing")
		assert.ErrorIs(t, err, admin.ErrNotFound)

		time.Sleep(time.Minute)
		queue, err = queues.Inspect(ctx, "emails")
		assert.NoError(t, err)
		assert.Equal(t, queue.Stats.ExecutedLastMinute, 0)
	})
}

// TestTTLs shows that a queue with TTLs is created with all its settings by one
// call, through v2beta3, and that a TTL that is not set stays as it is.
func TestTTLs(t *testing.T) {
	t.Parallel()
	a, _, rpcs := emulated(t)
	masks, _, _ := listen(rpcs)
	ctx := t.Context()
	config := admin.QueueConfig{ID: "emails", TaskTTL: 240 * time.Hour, TombstoneTTL: 216 * time.Hour}

	change, err := a.Queues().Ensure(ctx, config)
	assert.NoError(t, err)
	assert.Equal(t, change.Action, admin.Create)
	assert.Equal(t, rpcs.made(), map[string]int{"beta.GetQueue": 2, "beta.CreateQueue": 1})
	created, err := a.Queues().Inspect(ctx, "emails")
	assert.NoError(t, err)
	assert.Equal(t, created.Config.TaskTTL, 240*time.Hour)
	assert.Equal(t, created.Config.TombstoneTTL, 216*time.Hour)
	assert.Equal(t, created.Config.MaxDispatchesPerSecond, 100)

	config.TaskTTL, config.TombstoneTTL = 0, 100*time.Hour
	change, err = a.Queues().Ensure(ctx, config)
	assert.NoError(t, err)
	assert.Equal(t, change.String(), "queue emails: update tombstone_ttl 216h0m0s → 100h0m0s")
	assert.Equal(t, *masks, [][]string{{"tombstone_ttl"}})
	changed, err := a.Queues().Inspect(ctx, "emails")
	assert.NoError(t, err)
	assert.Equal(t, changed.Config.TaskTTL, 240*time.Hour)
	assert.Equal(t, changed.Config.TombstoneTTL, 100*time.Hour)
}

// TestTTLsOfMany shows that if one of several configurations has a TTL, the
// location is listed through v2beta3, still by one call.
func TestTTLsOfMany(t *testing.T) {
	t.Parallel()
	a, _, rpcs := emulated(t)
	_, filters, stats := listen(rpcs)
	configs := []admin.QueueConfig{{ID: "a", TaskTTL: 300 * time.Hour}, {ID: "b", TombstoneTTL: 2 * time.Hour}}
	_, err := a.Queues().EnsureAll(t.Context(), configs)
	assert.NoError(t, err)
	rpcs.made()
	changes, err := a.Queues().EnsureAll(t.Context(), configs)
	assert.NoError(t, err)
	assert.Equal(t, changes, []admin.Change{{Queue: "a"}, {Queue: "b"}})
	assert.Equal(t, rpcs.made(), map[string]int{"beta.ListQueues": 1})
	assert.Equal(t, *filters, []string{"", ""})
	assert.Equal(t, *stats, 0) // not needed here, and expensive for the service
}

// TestBetaHasEverySetting shows that no setting is lost in the conversion to
// v2beta3 and back.
func TestBetaHasEverySetting(t *testing.T) {
	t.Parallel()
	a, _, rpcs := emulated(t)
	masks, _, _ := listen(rpcs)
	config := admin.QueueConfig{ID: "q", TaskTTL: 500 * time.Hour, TombstoneTTL: 5 * time.Hour}
	for _, s := range everySetting {
		s.set(&config)
	}
	queue, err := a.Queues().Create(t.Context(), config)
	assert.NoError(t, err)
	assert.Equal(t, queue.State, admin.Running)
	assert.Equal(t, queue.Config, config)

	config.AppEngine, config.MaxAttempts = nil, 8
	_, err = a.Queues().Ensure(t.Context(), config)
	assert.NoError(t, err)
	assert.Equal(t, *masks, [][]string{{"retry_config.max_attempts", "app_engine_http_queue.app_engine_routing_override"}})
	queue, err = a.Queues().Inspect(t.Context(), "q")
	assert.NoError(t, err)
	assert.Equal(t, queue.Config, config)
}
