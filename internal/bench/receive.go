package main

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/brillconsulting/handoff/internal/bench/measure"
)

// receiver is a worker process and the number of tasks that were sent to it.
type receiver struct {
	*child

	lab  *lab
	next atomic.Int64
}

func (l *lab) receiver(ctx context.Context, s setup) (*receiver, error) {
	s.Redis, s.Keys = l.redisServer.addr, l.keys.url
	c, err := l.child(ctx, "worker", s)
	return &receiver{child: c, lab: l}, err
}

// deliver runs one load with inFlight deliveries at once, after emptying Redis.
func (r *receiver) deliver(ctx context.Context, inFlight int, tasks *dispatches) (sample, error) {
	if err := r.lab.empty(ctx); err != nil {
		return sample{}, err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: inFlight}}
	defer client.CloseIdleConnections()
	if _, err := tasks.deliver(ctx, client, inFlight, r.lab.length, inFlight); err != nil { // opens the connections
		return sample{}, err
	}
	before, err := r.ask(command{Do: "tell"})
	if err != nil {
		return sample{}, err
	}
	var done loaded
	m := meters{}.with(workerCPU, r.pid()).with(redisCPU, r.lab.redisServer.pid())
	m[loadCPU] = func() (time.Duration, error) { return measure.CPU(), nil }
	cpu, err := m.during(func() (err error) {
		done, err = tasks.deliver(ctx, client, inFlight, r.lab.length, r.lab.tasksMax)
		return err
	})
	if err != nil {
		return sample{}, err
	}
	after, err := r.ask(command{Do: "tell"})
	if err != nil {
		return sample{}, err
	}
	if handled := after.Tasks - before.Tasks; handled != done.tasks {
		return sample{}, fmt.Errorf("%d tasks got 200, %d were handled", done.tasks, handled)
	}
	if used := r.next.Load(); len(tasks.tokens) > 1 && len(tasks.tokens) < forgotten && used > int64(len(tasks.tokens)) {
		return sample{}, fmt.Errorf("%d tasks were sent with %d tokens; each needs a new one", used, len(tasks.tokens))
	}
	return sample{
		tasks: done.tasks, wall: done.wall, cpu: cpu,
		p50: percentile(done.latencies, 50), p99: percentile(done.latencies, 99),
		allocated: float64(after.Allocated-before.Allocated) / float64(done.tasks),
	}, nil
}
