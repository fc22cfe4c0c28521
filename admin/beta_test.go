package admin_test

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	betapb "cloud.google.com/go/cloudtasks/apiv2beta3/cloudtaskspb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/internal/assert"
)

// betaServer is as much of v2beta3 as statistics and TTLs take.
type betaServer struct {
	betapb.UnimplementedCloudTasksServer

	mu     sync.Mutex
	queues map[string]*betapb.Queue
	masks  [][]string // of updates
	asked  []string   // filters, and "stats" where they were asked for
}

func betaScripted(t *testing.T) (*admin.Admin, *betaServer, *tap) {
	t.Helper()
	srv := &betaServer{queues: make(map[string]*betapb.Queue)}
	a, line := scripted(t, func(s *grpc.Server) { betapb.RegisterCloudTasksServer(s, srv) })
	return a, srv, line
}

func (s *betaServer) CreateQueue(_ context.Context, req *betapb.CreateQueueRequest) (*betapb.Queue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := proto.CloneOf(req.GetQueue())
	q.State = betapb.Queue_RUNNING
	q.TaskTtl = cmp.Or(q.GetTaskTtl(), durationpb.New(31*24*time.Hour))
	q.TombstoneTtl = cmp.Or(q.GetTombstoneTtl(), durationpb.New(time.Hour))
	s.queues[q.GetName()] = q
	return q, nil
}

func (s *betaServer) GetQueue(_ context.Context, req *betapb.GetQueueRequest) (*betapb.Queue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, ok := s.queues[req.GetName()]
	if !ok {
		return nil, status.Error(codes.NotFound, "Queue does not exist.")
	}
	return s.view(q, req.GetReadMask().GetPaths()), nil
}

func (s *betaServer) ListQueues(_ context.Context, req *betapb.ListQueuesRequest) (*betapb.ListQueuesResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resp := new(betapb.ListQueuesResponse)
	s.asked = append(s.asked, req.GetFilter())
	for _, q := range s.queues {
		resp.Queues = append(resp.Queues, s.view(q, req.GetReadMask().GetPaths()))
	}
	slices.SortFunc(resp.Queues, func(a, b *betapb.Queue) int { return strings.Compare(a.GetName(), b.GetName()) })
	return resp, nil
}

func (s *betaServer) view(q *betapb.Queue, mask []string) *betapb.Queue {
	q = proto.CloneOf(q)
	if slices.Contains(mask, "stats") {
		s.asked = append(s.asked, "stats")
		q.Stats = &betapb.QueueStats{
			TasksCount:                 42,
			OldestEstimatedArrivalTime: timestamppb.New(time.Unix(1_700_000_000, 0)),
			ExecutedLastMinuteCount:    600,
			ConcurrentDispatchesCount:  7,
			EffectiveExecutionRate:     12.5,
		}
	}
	if !slices.Contains(mask, "task_ttl") {
		q.TaskTtl, q.TombstoneTtl = nil, nil
	}
	return q
}

func (s *betaServer) UpdateQueue(_ context.Context, req *betapb.UpdateQueueRequest) (*betapb.Queue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.masks = append(s.masks, req.GetUpdateMask().GetPaths())
	q, to := s.queues[req.GetQueue().GetName()], req.GetQueue()
	for _, path := range req.GetUpdateMask().GetPaths() {
		switch path {
		case "task_ttl":
			q.TaskTtl = to.GetTaskTtl()
		case "tombstone_ttl":
			q.TombstoneTtl = to.GetTombstoneTtl()
		case "retry_config.max_attempts":
			q.RetryConfig.MaxAttempts = to.GetRetryConfig().GetMaxAttempts()
		case "app_engine_http_queue.app_engine_routing_override":
			q.QueueType = to.GetQueueType()
		default:
			return nil, status.Errorf(codes.InvalidArgument, "path %q", path)
		}
	}
	return q, nil
}

func TestStats(t *testing.T) {
	t.Parallel()
	a, srv, line := betaScripted(t)
	queues, ctx := a.Queues(), t.Context()
	_, err := queues.Create(ctx, admin.QueueConfig{ID: "emails", TombstoneTTL: 24 * time.Hour})
	assert.NoError(t, err)
	line.made()

	queue, err := queues.Inspect(ctx, "emails")
	assert.NoError(t, err)
	want := admin.Stats{
		Tasks: 42, OldestArrival: time.Unix(1_700_000_000, 0).UTC(), ExecutedLastMinute: 600,
		ConcurrentDispatches: 7, EffectiveRate: 12.5,
	}
	assert.Equal(t, *queue.Stats, want)
	assert.Equal(t, queue.Config.TaskTTL, 31*24*time.Hour)
	assert.Equal(t, queue.Config.TombstoneTTL, 24*time.Hour)
	for queue, err := range queues.List(ctx, admin.ListQueues{Filter: "state: RUNNING", Stats: true}) {
		assert.NoError(t, err)
		assert.Equal(t, *queue.Stats, want)
	}
	assert.Equal(t, line.made(), map[string]int{"beta.GetQueue": 1, "beta.ListQueues": 1})
	assert.Equal(t, srv.asked, []string{"stats", "state: RUNNING", "stats"})
	_, err = queues.Inspect(ctx, "missing")
	assert.ErrorIs(t, err, admin.ErrNotFound)
}

// TestTTLs shows that a queue with TTLs is created whole, by one call, through
// v2beta3, and that a TTL that is not set is left alone.
func TestTTLs(t *testing.T) {
	t.Parallel()
	a, srv, line := betaScripted(t)
	ctx := t.Context()
	config := admin.QueueConfig{ID: "emails", TaskTTL: 240 * time.Hour, TombstoneTTL: 216 * time.Hour}

	change, err := a.Queues().Ensure(ctx, config)
	assert.NoError(t, err)
	assert.Equal(t, change.Action, admin.Create)
	assert.Equal(t, line.made(), map[string]int{"beta.GetQueue": 2, "beta.CreateQueue": 1})
	created := srv.queues[parent+"/queues/emails"]
	assert.Equal(t, created.GetTaskTtl().AsDuration(), 240*time.Hour)
	assert.Equal(t, created.GetTombstoneTtl().AsDuration(), 216*time.Hour)
	assert.Equal(t, created.GetRateLimits().GetMaxDispatchesPerSecond(), 100)

	config.TaskTTL, config.TombstoneTTL = 0, 100*time.Hour
	change, err = a.Queues().Ensure(ctx, config)
	assert.NoError(t, err)
	assert.Equal(t, change.String(), "queue emails: update tombstone_ttl 216h0m0s → 100h0m0s")
	assert.Equal(t, srv.masks, [][]string{{"tombstone_ttl"}})
	assert.Equal(t, created.GetTaskTtl().AsDuration(), 240*time.Hour)
}

// TestTTLsOfMany shows that one configuration with a TTL has the whole location
// listed through v2beta3, still by one call.
func TestTTLsOfMany(t *testing.T) {
	t.Parallel()
	a, srv, line := betaScripted(t)
	configs := []admin.QueueConfig{{ID: "a", TaskTTL: 300 * time.Hour}, {ID: "b", TombstoneTTL: 2 * time.Hour}}
	_, err := a.Queues().EnsureAll(t.Context(), configs)
	assert.NoError(t, err)
	line.made()
	changes, err := a.Queues().EnsureAll(t.Context(), configs)
	assert.NoError(t, err)
	assert.Equal(t, changes, []admin.Change{{Queue: "a"}, {Queue: "b"}})
	assert.Equal(t, line.made(), map[string]int{"beta.ListQueues": 1})
	assert.Equal(t, srv.asked, []string{"", ""}) // statistics cost the service more, and nobody needs them here
}

// TestBetaHasEverySetting shows that what a queue is survives the way through
// the other version of the API, both ways.
func TestBetaHasEverySetting(t *testing.T) {
	t.Parallel()
	a, srv, _ := betaScripted(t)
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
	assert.Equal(t, srv.masks, [][]string{{"retry_config.max_attempts", "app_engine_http_queue.app_engine_routing_override"}})
}
