package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
)

// restartable is a server that can be killed, and started on what it left.
type restartable interface {
	kill()
	start(ctx context.Context) error
}

// trouble makes one thing go wrong after the other until ctx ends, at random
// but from the seed. It leaves everything mended.
func (r *rig) trouble(ctx context.Context, random *rand.Rand) {
	r.mending.Go(func() {
		for pause(ctx, 700*time.Millisecond) {
			r.runByHand(ctx)
		}
	})
	for pause(ctx, 50*time.Millisecond+time.Duration(random.Int64N(int64(350*time.Millisecond)))) {
		proxy := r.fleet.slots[random.IntN(len(r.fleet.slots))].proxy
		switch n := random.IntN(100); {
		case n < 25:
			r.count("workers killed")
			r.fleet.signal(random, syscall.SIGKILL)
		case n < 40:
			r.count("workers drained")
			r.fleet.signal(random, syscall.SIGTERM)
		case n < 45:
			r.count("store killed")
			r.restartStore(ctx, random)
		case n < 55:
			r.count("workers stopped")
			if resume := r.fleet.stop(random); resume != nil {
				r.during(ctx, time.Duration(random.Int64N(int64(2*lease))), func() {}, resume)
			}
		case n < 65:
			r.count("connections swallowed")
			r.during(ctx, time.Duration(random.Int64N(int64(3*lease/2))), func() { proxy.setSwallow(true) }, func() { proxy.setSwallow(false) })
		case n < 80:
			// Some cuts outlast a lease.
			r.count("connections cut")
			r.during(ctx, time.Duration(random.Int64N(int64(3*lease/2))), func() { proxy.setCut(true) }, func() { proxy.setCut(false) })
		default:
			r.count("connections slowed")
			delay := int64(time.Duration(random.IntN(100)) * time.Millisecond)
			r.during(ctx, time.Second, func() { proxy.delay.Store(delay) }, func() { proxy.delay.Store(0) })
		}
	}
	r.mending.Wait()
}

func (r *rig) restartStore(ctx context.Context, random *rand.Rand) {
	r.store.kill()
	pause(ctx, time.Duration(random.Int64N(int64(500*time.Millisecond))))
	if err := r.store.start(context.WithoutCancel(ctx)); err != nil {
		r.fail(err)
	}
}

// runByHand dispatches the tasks that run longest once more, as an operator may
// and as Cloud Tasks does after a dispatch deadline (docs/cloud-tasks.md#8.2).
func (r *rig) runByHand(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var running []*cloudtaskspb.Task
	for i := range queues {
		for _, task := range r.tasks.Tasks(queueName(i)) {
			if task.DispatchCount > task.ResponseCount {
				running = append(running, task)
			}
		}
	}
	slices.SortFunc(running, func(a, b *cloudtaskspb.Task) int {
		return a.LastAttempt.DispatchTime.AsTime().Compare(b.LastAttempt.DispatchTime.AsTime())
	})
	for _, task := range running[:min(10, len(running))] {
		// An error says that it has ended meanwhile.
		if _, err := r.admin.RunTask(ctx, &cloudtaskspb.RunTaskRequest{Name: task.Name}); err == nil {
			r.count("tasks run by hand")
		}
	}
}

// during does something for a while, beside whatever else goes wrong.
func (r *rig) during(ctx context.Context, d time.Duration, do, undo func()) {
	do()
	r.mending.Go(func() {
		pause(ctx, d)
		undo()
	})
}
