package emulator_test

import (
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

func TestCallFaults(t *testing.T) {
	t.Parallel()
	bubble := func(name string, test func(*testing.T, *setup)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := begin(t, emulator.Config{})
				s.pause()
				test(t, s)
			})
		})
	}
	bubble("an error, twice, in one method", func(t *testing.T, s *setup) {
		s.srv.InjectCall(emulator.CallFault{Method: "CreateTask", Times: 2, Code: codes.ResourceExhausted})
		_, err := s.client.GetQueue(t.Context(), &cloudtaskspb.GetQueueRequest{Name: emails})
		assert.NoError(t, err)
		for range 2 {
			_, err := s.tryCreate()
			assert.Equal(t, status.Code(err), codes.ResourceExhausted)
		}
		s.create()
		assert.Equal(t, len(s.srv.Tasks("emails")), 1)
	})
	bubble("the response is lost, the task is not", func(t *testing.T, s *setup) {
		s.srv.InjectCall(emulator.CallFault{Method: "CreateTask", Times: 1, LoseResponse: true})
		_, err := s.tryCreate()
		assert.Equal(t, status.Code(err), codes.Unavailable)
		assert.Equal(t, len(s.srv.Tasks("emails")), 1)
	})
	bubble("a delay, in every method, until it is removed", func(t *testing.T, s *setup) {
		remove := s.srv.InjectCall(emulator.CallFault{Delay: 3 * time.Second})
		start := time.Now()
		s.create()
		assert.Equal(t, time.Since(start), 3*time.Second)
		remove()
		remove()
		start = time.Now()
		s.create()
		assert.Equal(t, time.Since(start), time.Duration(0))
	})
	bubble("a delay beyond the caller's deadline", func(t *testing.T, s *setup) {
		s.srv.InjectCall(emulator.CallFault{Delay: time.Hour})
		_, err := s.tryCreate() // Google's client gives up after 20 s
		assert.Equal(t, status.Code(err), codes.DeadlineExceeded)
		assert.Equal(t, len(s.srv.Tasks("emails")), 0)
	})
}

func TestDispatchFaults(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		fault emulator.DispatchFault
		want  []time.Duration // of the deliveries, from the creation
		kind  func(emulator.Dispatch) bool
	}{
		"a response in the target's place": {
			emulator.DispatchFault{Status: 503}, []time.Duration{100 * time.Millisecond},
			func(a emulator.Dispatch) bool { return a.Status == 503 },
		},
		"unreachable": {
			emulator.DispatchFault{Unreachable: true}, []time.Duration{100 * time.Millisecond},
			func(a emulator.Dispatch) bool { return a.Status == 0 && a.Err != "" && a.Response.IsZero() },
		},
		"the response is lost": {
			emulator.DispatchFault{LoseResponse: true}, []time.Duration{0, 100 * time.Millisecond},
			func(a emulator.Dispatch) bool { return a.Status == 0 && a.Err != "" },
		},
		"late": {
			emulator.DispatchFault{Delay: time.Minute}, []time.Duration{time.Minute},
			func(a emulator.Dispatch) bool { return a.Status == 200 },
		},
		"later than the deadline": {
			emulator.DispatchFault{Delay: time.Hour}, []time.Duration{10*time.Minute + 100*time.Millisecond},
			func(a emulator.Dispatch) bool { return a.Timeout },
		},
		"twice at once": {
			emulator.DispatchFault{Twice: true}, []time.Duration{0, 0},
			func(a emulator.Dispatch) bool { return a.Status == 200 },
		},
		"again after success": {
			emulator.DispatchFault{Again: true}, []time.Duration{0, 0},
			func(a emulator.Dispatch) bool { return a.Status == 200 },
		},
		"of another queue": {
			emulator.DispatchFault{Queue: "others", Status: 503}, []time.Duration{0},
			func(a emulator.Dispatch) bool { return a.Status == 200 },
		},
		"of another target": {
			emulator.DispatchFault{URL: "https://other.example/", Status: 503}, []time.Duration{0},
			func(a emulator.Dispatch) bool { return a.Status == 200 },
		},
		"of this target": {
			emulator.DispatchFault{Queue: emails, URL: "https://worker.example/", Status: 503}, []time.Duration{100 * time.Millisecond},
			func(a emulator.Dispatch) bool { return a.Status == 503 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := begin(t, emulator.Config{})
				row.fault.Times = 1
				s.srv.InjectDispatch(row.fault)
				start := time.Now()
				task := s.create()
				s.wait()
				var got []time.Duration
				for _, d := range s.worker.deliveries() {
					got = append(got, d.at.Sub(start))
				}
				assert.Equal(t, got, row.want)
				if first := s.srv.Dispatches(task.GetName())[0]; !row.kind(first) {
					t.Errorf("first dispatch: %+v", first)
				}
			})
		})
	}
}

// Throttling is opt-in; its figures are ours, its direction is the service's.
func TestThrottle(t *testing.T) {
	t.Parallel()
	took := func(t *testing.T, throttle bool, fault emulator.DispatchFault) (d time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			s := begin(t, emulator.Config{Throttle: throttle})
			s.update(&cloudtaskspb.Queue{RateLimits: &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 50}})
			s.srv.InjectDispatch(fault)
			start := time.Now()
			for range 200 {
				s.create()
			}
			s.wait()
			d = time.Since(start)
		})
		return d
	}
	none := emulator.DispatchFault{Queue: "none"}
	busy := emulator.DispatchFault{Status: 503, Times: 50}
	wrong := emulator.DispatchFault{Status: 500, Times: 50}
	if plain, slowed := took(t, true, none), took(t, true, busy); slowed < 2*plain {
		t.Errorf("with 503s %v, without %v", slowed, plain)
	}
	if off, other := took(t, false, busy), took(t, true, wrong); off != other {
		t.Errorf("with 503s and no throttling %v, with 500s and throttling %v", off, other)
	}
}
