package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff/internal/bench/measure"
)

// settled is how long to wait before memory and CPU are read.
const settled = 10 * time.Second

// emulatorRun is an emulator process, its client and the target of its dispatches.
// The target runs in this process, so that its CPU time is not counted as the
// emulator's.
type emulatorRun struct {
	*child

	tasks  *cloudtasks.Client
	queues []string
	target *target
}

// emulation compares the emulator with a bare http.Client, and measures its memory
// and CPU.
func (l *lab) emulation(ctx context.Context, report *Report) error {
	for _, part := range []struct {
		name    string
		measure func(context.Context, *Report) error
	}{
		{"dispatches", l.dispatches}, {"drain", l.drain}, {"lateness", l.lateness},
		{"finished tasks", l.finished}, {"pending tasks", l.pending}, {"idle", l.idle},
	} {
		l.progress("emulator, " + part.name)
		if err := part.measure(ctx, report); err != nil {
			return fmt.Errorf("emulator, %s: %w", part.name, err)
		}
	}
	return nil
}

// withEmulator calls run with an emulator that has the given number of queues, each
// with 500 dispatches a second.
func (l *lab) withEmulator(ctx context.Context, queues int, run func(*emulatorRun) error) error {
	target, err := newTarget()
	if err != nil {
		return err
	}
	defer target.close()
	c, err := startChild(ctx, "emulator", setup{})
	if err != nil {
		return err
	}
	e := &emulatorRun{child: c, target: target}
	if e.tasks, err = cloudtasks.NewClient(ctx, optionsFor(c.first.Addr)...); err != nil {
		return errors.Join(err, c.stop())
	}
	for i := range queues {
		name := fmt.Sprintf("%s/queues/q%d", location, i)
		e.queues = append(e.queues, name)
		limits := &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 500, MaxConcurrentDispatches: senders}
		if _, err := e.tasks.CreateQueue(ctx, &cloudtaskspb.CreateQueueRequest{Parent: location, Queue: &cloudtaskspb.Queue{Name: name, RateLimits: limits}}); err != nil {
			return errors.Join(err, c.stop())
		}
	}
	return errors.Join(run(e), e.tasks.Close(), c.stop())
}

// smallBody is the body of the emulator's tasks.
var smallBody = strings.Repeat("x", 100)

// create creates n tasks in batches of a hundred, spread over the queues.
func (e *emulatorRun) create(ctx context.Context, n int, due func(i int) time.Time) error {
	const batch = 100
	return measure.Calls(ctx, (n+batch-1)/batch, 8, 0, func(call int) error {
		req := &cloudtaskspb.BatchCreateTasksRequest{Parent: e.queues[call%len(e.queues)]}
		for i := call * batch; i < min((call+1)*batch, n); i++ {
			at := due(i)
			req.Requests = append(req.Requests, &cloudtaskspb.CreateTaskRequest{Parent: req.Parent, Task: &cloudtaskspb.Task{
				ScheduleTime: timestamppb.New(at),
				MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
					Url: fmt.Sprintf("%s/%d", e.target.url, at.UnixNano()), Body: []byte(smallBody),
				}},
			}})
		}
		op, err := e.tasks.BatchCreateTasks(ctx, req)
		if err != nil {
			return err
		}
		resp, err := op.Wait(ctx)
		if err == nil && len(resp.GetTasks()) != len(req.GetRequests()) {
			err = fmt.Errorf("%d of %d tasks of a batch were created", len(resp.GetTasks()), len(req.GetRequests()))
		}
		return err
	})
}

func dueAt(t time.Time) func(int) time.Time { return func(int) time.Time { return t } }

func (e *emulatorRun) pause(ctx context.Context) error {
	for _, name := range e.queues {
		if _, err := e.tasks.PauseQueue(ctx, &cloudtaskspb.PauseQueueRequest{Name: name}); err != nil {
			return err
		}
	}
	return nil
}

// drained fills paused queues with n due tasks and resumes them. It returns how
// long the dispatches took, and the emulator's CPU time.
func (e *emulatorRun) drained(ctx context.Context, n int) (took, cpu time.Duration, err error) {
	if err := e.pause(ctx); err != nil {
		return 0, 0, err
	}
	if err := e.create(ctx, n, dueAt(time.Now())); err != nil {
		return 0, 0, err
	}
	arrived := e.target.expect(n)
	begun := time.Now()
	cpu, err = cpuDuring(e.pid(), func() error {
		err := measure.Calls(ctx, len(e.queues), len(e.queues), 0, func(i int) error {
			_, err := e.tasks.ResumeQueue(ctx, &cloudtaskspb.ResumeQueueRequest{Name: e.queues[i]})
			return err
		})
		return errors.Join(err, arrived(ctx))
	})
	return time.Since(begun), cpu, err
}

// bare sends n requests from a bare client at a rate, and returns its CPU time.
func (e *emulatorRun) bare(ctx context.Context, n int, rate float64) (time.Duration, error) {
	c, err := startChild(ctx, "sender", setup{Worker: e.target.url})
	if err != nil {
		return 0, err
	}
	arrived := e.target.expect(n)
	cpu, err := cpuDuring(c.pid(), func() error {
		_, err := c.ask(command{Do: "send", Tasks: n, Rate: rate})
		return errors.Join(err, arrived(ctx))
	})
	return cpu, errors.Join(err, c.stop())
}

// dispatches compares the CPU time of a dispatch with that of a request of a bare
// client, which sends at the rate that the emulator has just reached.
func (l *lab) dispatches(ctx context.Context, report *Report) error {
	return l.withEmulator(ctx, 10, func(e *emulatorRun) error {
		var ours, bares, ratios []float64
		for range l.rounds {
			took, cpu, err := e.drained(ctx, l.dispatched)
			if err != nil {
				return err
			}
			bare, err := e.bare(ctx, l.dispatched, float64(l.dispatched)/took.Seconds())
			if err != nil {
				return err
			}
			ours, bares = append(ours, perTask(cpu, l.dispatched)), append(bares, perTask(bare, l.dispatched))
			ratios = append(ratios, cpu.Seconds()/bare.Seconds())
		}
		report.relate("CPU of a dispatch", measure.MedianOf(ratios), "times a bare http.Client", 1.6,
			fmt.Sprintf("%.1f µs and %.1f µs, at one rate", measure.MedianOf(ours), measure.MedianOf(bares)))
		return nil
	})
}

func (l *lab) drain(ctx context.Context, report *Report) error {
	return l.withEmulator(ctx, 40, func(e *emulatorRun) error {
		var rates []float64
		for range l.rounds {
			took, _, err := e.drained(ctx, l.drained)
			if err != nil {
				return err
			}
			rates = append(rates, float64(l.drained)/took.Seconds())
		}
		report.relate("drain of 40 queues at 500 a second", measure.MedianOf(rates), "tasks/s", 0, "to compare with another commit")
		return nil
	})
}

// lateness compares how late the emulator's tasks arrive with how late a bare
// client's requests arrive that are due at the same intervals.
func (l *lab) lateness(ctx context.Context, report *Report) error {
	return l.withEmulator(ctx, 1, func(e *emulatorRun) error {
		const rate = 300.0
		n := l.scheduled
		late := e.target.collect()
		arrived := e.target.expect(n)
		first := time.Now().Add(2 * time.Second).Truncate(time.Microsecond)
		err := e.create(ctx, n, func(i int) time.Time {
			return first.Add(time.Duration(float64(i) / rate * float64(time.Second))).Truncate(time.Microsecond) // the service keeps microseconds
		})
		if err == nil && time.Now().After(first) {
			err = errors.New("creating the tasks took so long that some were already due")
		}
		if err = errors.Join(err, arrived(ctx)); err != nil {
			return err
		}
		ours := late()
		late = e.target.collect()
		if _, err := e.bare(ctx, n, rate); err != nil {
			return err
		}
		bare := late()
		early := 0
		for early < n && ours[early] < 0 { // they are sorted
			early++
		}
		p99 := func(d []time.Duration) float64 { return milliseconds(percentile(d, 99)) }
		report.relate("lateness, p99", p99(ours)-p99(bare), "ms over a bare http.Client", 1, fmt.Sprintf("%.2f ms and %.2f ms", p99(ours), p99(bare)))
		report.relate("tasks that arrived early", float64(early), "", 0.5, fmt.Sprintf("of %d", n))
		return nil
	})
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }

func (l *lab) finished(ctx context.Context, report *Report) error {
	return l.withEmulator(ctx, 10, func(e *emulatorRun) error {
		grown, err := l.growth(ctx, e, func() error {
			for left := l.done; left > 0; left -= 1000 { // in parts, so that few are pending at a time
				n := min(left, 1000)
				arrived := e.target.expect(n)
				if err := errors.Join(e.create(ctx, n, dueAt(time.Now())), arrived(ctx)); err != nil {
					return err
				}
			}
			return nil
		})
		report.relate(fmt.Sprintf("memory after %s finished tasks", grouped(int64(l.done))), grown/1e6, "MB", 30, "resident")
		return err
	})
}

func (l *lab) pending(ctx context.Context, report *Report) error {
	return l.withEmulator(ctx, 10, func(e *emulatorRun) error {
		grown, err := l.growth(ctx, e, func() error { return e.create(ctx, l.waiting, dueAt(time.Now().Add(24*time.Hour))) })
		report.relate(fmt.Sprintf("memory of %s pending tasks", grouped(int64(l.waiting))), grown/float64(l.waiting), "B a task", 600, "resident")
		return err
	})
}

// growth returns by how many bytes the emulator's memory has grown some time after
// load.
func (l *lab) growth(ctx context.Context, e *emulatorRun, load func() error) (float64, error) {
	before, err := measure.Resident(e.pid())
	if err != nil {
		return 0, err
	}
	if err := load(); err != nil {
		return 0, err
	}
	if err := wait(ctx, l.settled); err != nil {
		return 0, err
	}
	after, err := measure.Resident(e.pid())
	return float64(after - before), err
}

func (l *lab) idle(ctx context.Context, report *Report) error {
	return l.withEmulator(ctx, 1, func(e *emulatorRun) error {
		if err := e.create(ctx, l.done, dueAt(time.Now().Add(24*time.Hour))); err != nil {
			return err
		}
		if err := wait(ctx, l.settled); err != nil {
			return err
		}
		cpu, err := cpuDuring(e.pid(), func() error { return wait(ctx, l.watched) })
		report.relate("CPU while tasks wait for tomorrow", 100*cpu.Seconds()/l.watched.Seconds(), "% of a core", 0.2, grouped(int64(l.done))+" tasks")
		return err
	})
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// cpuDuring returns the CPU time that a process uses while run runs.
func cpuDuring(pid int, run func() error) (time.Duration, error) {
	before, err := measure.CPUOf(pid)
	if err != nil {
		return 0, err
	}
	if err := run(); err != nil {
		return 0, err
	}
	after, err := measure.CPUOf(pid)
	return after - before, err
}

// target counts requests and records how late they are. The path of a request is
// the time at which it is due, in Unix nanoseconds.
type target struct {
	url    string
	server *http.Server

	got  atomic.Int64
	goal atomic.Int64
	done atomic.Pointer[chan struct{}]

	mu   sync.Mutex
	late []time.Duration // nil unless collect was called
}

func newTarget() (*target, error) {
	t := &target{}
	addr, server, err := serve(t)
	t.url, t.server = "http://"+addr, server
	return t, err
}

func (t *target) close() { _ = t.server.Close() }

func (t *target) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	now := time.Now()
	_, _ = io.Copy(io.Discard, r.Body)
	if due, err := strconv.ParseInt(path.Base(r.URL.Path), 10, 64); err == nil {
		t.mu.Lock()
		if t.late != nil {
			t.late = append(t.late, now.Sub(time.Unix(0, due)))
		}
		t.mu.Unlock()
	}
	if t.got.Add(1) == t.goal.Load() {
		close(*t.done.Load())
	}
}

// expect resets the count, and returns a function that waits until n requests have
// arrived.
func (t *target) expect(n int) func(context.Context) error {
	done := make(chan struct{})
	t.done.Store(&done)
	t.got.Store(0)
	t.goal.Store(int64(n))
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, drainTimeout)
		defer cancel()
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("%d of %d tasks arrived: %w", t.got.Load(), n, ctx.Err())
		}
	}
}

// collect starts to record lateness, and returns a function that stops it and
// returns what was recorded, sorted.
func (t *target) collect() func() []time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.late = make([]time.Duration, 0, 1024)
	return func() []time.Duration {
		t.mu.Lock()
		defer t.mu.Unlock()
		late := t.late
		t.late = nil
		slices.Sort(late)
		return late
	}
}
