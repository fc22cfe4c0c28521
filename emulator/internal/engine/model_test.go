package engine_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/brillconsulting/handoff/emulator/internal/engine"
)

// model is a queue as docs/cloud-tasks.md describes it. It records the calls of the
// real queue and their outcomes.
type model struct {
	*testing.T
	seed uint64
	rnd  *rand.Rand

	engine      *engine.Engine
	queue       *engine.Queue
	rate        float64
	burst       float64
	concurrent  int
	retry       *cloudtaskspb.RetryConfig
	failureRate float64

	mu       sync.Mutex
	tasks    map[string]*modelTask
	started  []time.Time // of every dispatch
	inFlight int
	paused   bool
}

type modelTask struct {
	due        time.Time // of the next dispatch
	dispatches int
	first      time.Time
	running    bool
	over       bool // deleted, purged, done or given up
}

// TestModel makes random calls of queues and compares them with the model: no task is
// lost, and none is dispatched early, after its end or while the queue is paused. The
// concurrency is kept, and the rate in every window; no dispatch is late, and backoff
// is exact to the nanosecond.
func TestModel(t *testing.T) {
	t.Parallel()
	for range 60 {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { newModel(t, seed).run() })
		})
	}
}

func newModel(t *testing.T, seed uint64) *model {
	rnd := rand.New(rand.NewPCG(seed, 1))
	m := &model{
		T: t, seed: seed, rnd: rnd,
		rate:        []float64{0.5, 1, 3.3, 20, 100, 500}[rnd.IntN(6)],
		concurrent:  []int{1, 2, 7, 100}[rnd.IntN(4)],
		failureRate: []float64{0, 0.2, 0.6, 1}[rnd.IntN(4)],
		tasks:       map[string]*modelTask{},
		retry: &cloudtaskspb.RetryConfig{
			MaxAttempts:  int32(1 + rnd.IntN(8)),
			MinBackoff:   durationpb.New(time.Duration(rnd.Int64N(int64(2 * time.Second)))),
			MaxBackoff:   durationpb.New(time.Duration(rnd.Int64N(int64(time.Minute))) + 2*time.Second),
			MaxDoublings: int32(1 + rnd.IntN(4)),
		},
	}
	if rnd.IntN(3) == 0 {
		m.retry.MaxRetryDuration = durationpb.New(time.Duration(rnd.IntN(60)) * time.Second)
	}
	m.burst = float64(engine.DefaultBurst(m.rate))
	m.engine = newEngine(m.dispatch)
	q, err := m.engine.Create(engine.Definition{Queue: &cloudtaskspb.Queue{
		Name: "projects/p/locations/l/queues/q",
		RateLimits: &cloudtaskspb.RateLimits{
			MaxDispatchesPerSecond:  m.rate,
			MaxBurstSize:            int32(m.burst),
			MaxConcurrentDispatches: int32(m.concurrent),
		},
		RetryConfig: m.retry,
	}})
	m.check(err)
	m.queue = q
	return m
}

func (m *model) check(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *model) run() {
	for step := range 400 {
		switch r := m.rnd.IntN(100); {
		case r < 60:
			m.add(step)
		case r < 70:
			m.remove()
		case r < 75:
			m.setPaused(!m.paused)
		case r < 76:
			m.purge()
		default:
			time.Sleep(time.Duration(m.rnd.Float64() * 10 / m.rate * float64(time.Second)))
		}
		m.idle()
	}
	m.setPaused(false)
	m.check(m.engine.Wait(m.Context()))
	m.engine.Close()
	for id, t := range m.tasks {
		if !t.over {
			m.Errorf("%s is lost after %d dispatches", id, t.dispatches)
		}
	}
	if left, _ := m.queue.List(0, 1, math.MaxInt); len(left) > 0 {
		m.Errorf("%s is left", left[0].ID)
	}
	m.checkRate()
}

func (m *model) add(step int) {
	id := fmt.Sprint("t", step)
	due := time.Now()
	if m.rnd.IntN(2) == 0 {
		due = due.Add(time.Duration(m.rnd.Int64N(int64(time.Minute))))
	}
	m.mu.Lock()
	m.tasks[id] = &modelTask{due: due}
	m.mu.Unlock()
	_, err := m.queue.Add(encoded(m.T, id, bodyTask(1)), due)
	m.check(err)
	if _, err := m.queue.Add(encoded(m.T, id, bodyTask(1)), due); !errors.Is(err, engine.ErrTaskExists) && !errors.Is(err, engine.ErrTaskRecent) {
		m.Errorf("adding %s twice: %v", id, err)
	}
}

func (m *model) remove() {
	m.mu.Lock()
	var ids []string
	for id := range m.tasks {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	m.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	id := ids[m.rnd.IntN(len(ids))]
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.queue.Remove(id)
	if m.tasks[id].over != errors.Is(err, engine.ErrTaskMissing) {
		m.Errorf("removing %s, over %v: %v", id, m.tasks[id].over, err)
	}
	m.tasks[id].over = true
}

func (m *model) setPaused(paused bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change := m.queue.Resume
	if paused {
		change = m.queue.Pause
	}
	_, err := change()
	m.check(err)
	m.paused = paused
}

func (m *model) purge() {
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := m.queue.Purge()
	m.check(err)
	for _, t := range m.tasks {
		t.over = true
	}
}

// dispatch is the target. Its response depends only on the task and the number of the
// dispatch, so that a seed can be repeated.
func (m *model) dispatch(ctx context.Context, a *engine.Dispatch) engine.Outcome {
	now := time.Now()
	m.mu.Lock()
	t := m.tasks[a.TaskID]
	switch {
	case t.over:
		m.Errorf("%s is dispatched after its end", a.TaskID)
	case t.running:
		m.Errorf("%s is dispatched twice at once", a.TaskID)
	case now.Before(t.due):
		m.Errorf("%s is dispatched %v early", a.TaskID, t.due.Sub(now))
	case !a.Schedule.Equal(t.due):
		m.Errorf("%s dispatch %d is due %v, want %v", a.TaskID, t.dispatches, a.Schedule, t.due)
	case a.Retries != t.dispatches:
		m.Errorf("%s has had %d dispatches, is told %d", a.TaskID, t.dispatches, a.Retries)
	case m.paused:
		m.Errorf("%s is dispatched while the queue is paused", a.TaskID)
	}
	if t.dispatches == 0 {
		t.first = now
	}
	t.dispatches++
	t.running = true
	m.started = append(m.started, now)
	if m.inFlight++; m.inFlight > m.concurrent {
		m.Errorf("%d in flight, %d are allowed", m.inFlight, m.concurrent)
	}
	m.mu.Unlock()

	h := fnv.New64a()
	fmt.Fprint(h, a.TaskID, "/", a.Retries)
	rnd := rand.New(rand.NewPCG(m.seed, h.Sum64()))
	if rnd.IntN(2) == 0 {
		time.Sleep(time.Duration(rnd.Int64N(int64(3 * time.Second))))
	}
	out := engine.Outcome{Status: 200}
	if rnd.Float64() < m.failureRate {
		out.Status = 500
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	m.inFlight--
	t.running = false
	end := time.Now()
	if out.OK() || m.givenUp(t, end) {
		t.over = true
	} else {
		t.due = end.Add(m.backoff(t.dispatches))
	}
	return out
}

func (m *model) givenUp(t *modelTask, now time.Time) bool {
	return t.dispatches >= int(m.retry.GetMaxAttempts()) && now.Sub(t.first) >= m.retry.GetMaxRetryDuration().AsDuration()
}

// backoff is the formula of docs/cloud-tasks.md#7.2, word for word.
func (m *model) backoff(n int) time.Duration {
	least, most, d := m.retry.GetMinBackoff().AsDuration(), m.retry.GetMaxBackoff().AsDuration(), int(m.retry.GetMaxDoublings())
	if n <= d+1 {
		return min(most, least<<(n-1))
	}
	return min(most, least<<d*time.Duration(n-d))
}

// idle checks that no task waits that may be dispatched.
func (m *model) idle() {
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.paused || m.inFlight >= m.concurrent || m.tokens(now) < 1.001 {
		return
	}
	for id, t := range m.tasks {
		if !t.over && !t.running && !t.due.After(now) {
			m.Errorf("%s is due since %v and is held back: %d of %d in flight, %.2f tokens",
				id, now.Sub(t.due), m.inFlight, m.concurrent, m.tokens(now))
		}
	}
}

// tokens is the content of the bucket, computed from all dispatches.
func (m *model) tokens(now time.Time) float64 {
	tokens := m.burst
	var last time.Time
	for i, at := range append(slices.Clone(m.started), now) {
		if i > 0 {
			tokens = min(m.burst, tokens+at.Sub(last).Seconds()*m.rate)
		}
		tokens--
		last = at
	}
	return tokens + 1
}

// checkRate checks that no window between two dispatches has more of them than the
// bucket can give.
func (m *model) checkRate() {
	for i := range m.started {
		for j := i + 1; j < len(m.started); j++ {
			most := m.burst + m.started[j].Sub(m.started[i]).Seconds()*m.rate
			if got := float64(j - i + 1); got > most+0.001 {
				m.Fatalf("%v dispatches in %v, the bucket allows %v", got, m.started[j].Sub(m.started[i]), most)
			}
		}
	}
}
