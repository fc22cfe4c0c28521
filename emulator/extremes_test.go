package emulator_test

import (
	"math"
	"strings"
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

// longest is the longest duration of protocol buffers: ten thousand years.
func longest() *durationpb.Duration {
	return &durationpb.Duration{Seconds: 315_576_000_000, Nanos: 999_999_999}
}

// TestLongPast: a schedule time in the past is now, however long past.
func TestLongPast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, emulator.Config{})
		for _, at := range []time.Time{
			time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC),
			time.Date(1601, 1, 1, 0, 0, 0, 0, time.UTC),
			time.Date(1677, 9, 21, 0, 12, 43, 0, time.UTC), // the first that fits in nanoseconds is a second later
			time.Unix(0, 0),
			time.Now().Add(-time.Nanosecond),
		} {
			before := time.Now()
			task := s.create(func(task *cloudtaskspb.Task) { task.ScheduleTime = timestamppb.New(at) })
			assert.Equal(t, task.GetScheduleTime().AsTime().Sub(before) < time.Second, true)
			s.wait()
			assert.Equal(t, time.Since(before) < time.Second, true)
		}
		assert.Equal(t, len(s.worker.deliveries()), 5)
	})
}

// TestFarTimes: a time beyond 64 bits of nanoseconds becomes the last that they
// hold, and is never now.
func TestFarTimes(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	for _, backoff := range []*durationpb.Duration{durationpb.New(285 * year), durationpb.New(math.MaxInt64), longest()} {
		synctest.Test(t, func(t *testing.T) {
			s := begin(t, emulator.Config{Retention: math.MaxInt64, TaskWindow: math.MaxInt64, QueueWindow: math.MaxInt64}, 500, 500)
			retry := &cloudtaskspb.RetryConfig{MinBackoff: backoff, MaxBackoff: longest(), MaxRetryDuration: longest(), MaxDoublings: math.MaxInt32}
			s.update(&cloudtaskspb.Queue{RetryConfig: retry})
			got, err := s.client.GetQueue(t.Context(), &cloudtaskspb.GetQueueRequest{Name: emails})
			assert.NoError(t, err)
			assert.Equal(t, got.GetRetryConfig().GetMinBackoff().AsDuration(), backoff.AsDuration())
			assert.Equal(t, got.GetRetryConfig().GetMaxRetryDuration().GetSeconds(), longest().GetSeconds())
			task := s.create(func(task *cloudtaskspb.Task) { task.RetryConfig = retry })
			time.Sleep(10 * year)
			assert.Equal(t, len(s.worker.deliveries()), 1)
			left, err := s.client.GetTask(t.Context(), &cloudtaskspb.GetTaskRequest{Name: task.GetName()})
			assert.NoError(t, err)
			assert.Equal(t, time.Until(left.GetScheduleTime().AsTime()) > 200*year, true)
		})
	}
}

// TestRatesNearZero: a rate near zero lets the burst through, and then nothing for years.
func TestRatesNearZero(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{1e-9, math.SmallestNonzeroFloat64} {
		synctest.Test(t, func(t *testing.T) {
			s := begin(t, emulator.Config{Retention: math.MaxInt64})
			s.update(&cloudtaskspb.Queue{RateLimits: &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: rate}})
			for range 15 { // the burst that the service picks is 10
				s.create()
			}
			time.Sleep(24 * time.Hour)
			assert.Equal(t, len(s.worker.deliveries()), 10)
			s.update(&cloudtaskspb.Queue{RateLimits: &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 1}})
			time.Sleep(time.Minute)
			assert.Equal(t, len(s.worker.deliveries()), 15)
		})
	}
}

// TestErrorsOfHugeNames: an error arrives although the name that it quotes is too
// large for a header.
func TestErrorsOfHugeNames(t *testing.T) {
	t.Parallel()
	s := begin(t, emulator.Config{})
	huge := strings.Repeat("ü", 1<<20)
	named := httpTask("http://127.0.0.1/", nil)
	named.Name = emails + "/tasks/" + huge
	headed := httpTask("http://127.0.0.1/", func(r *cloudtaskspb.HttpRequest) { r.Headers = map[string]string{huge: ""} })
	override := &cloudtaskspb.HttpTarget{UriOverride: &cloudtaskspb.UriOverride{Host: &huge}}
	for what, call := range map[string]func() error{
		"task ID":     func() error { _, err := s.send(named); return err },
		"header name": func() error { _, err := s.send(headed); return err },
		"project": func() error {
			_, err := s.client.GetQueue(t.Context(), &cloudtaskspb.GetQueueRequest{Name: "projects/" + huge})
			return err
		},
		"host": func() error {
			_, err := s.client.UpdateQueue(t.Context(), &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{Name: emails, HttpTarget: override}})
			return err
		},
		"filter": func() error {
			_, err := s.client.ListQueues(t.Context(), &cloudtaskspb.ListQueuesRequest{Parent: location, Filter: huge}).Next()
			return err
		},
	} {
		err := call()
		if code := status.Code(err); code != codes.InvalidArgument && code != codes.PermissionDenied || len(err.Error()) > 5000 {
			t.Errorf("%s: %v: %.200s", what, code, err)
		}
	}
}
