package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"google.golang.org/api/option"
	"google.golang.org/protobuf/types/known/durationpb"
)

type config struct {
	sql            bool
	tasks, workers int
	seed           uint64
	limit, trouble time.Duration
}

// rig is everything that runs.
type rig struct {
	config  config
	dir     string
	tasks   *emulator.Server
	redis   *redisServer
	store   restartable
	fleet   *fleet
	ledger  *ledger
	client  *handoff.Client
	admin   *cloudtasks.Client
	mending sync.WaitGroup

	mu     sync.Mutex
	events map[string]int
	errs   []error
}

func (r *rig) count(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events[what]++
}

func (r *rig) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
}

const (
	project  = "chaos"
	location = "l"
	queues   = 5
	parent   = "projects/" + project + "/locations/" + location
)

// run is the whole: set up, trouble, calm, check.
func (c config) run(ctx context.Context) (*report, error) {
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	start := time.Now()
	r := &rig{config: c, events: make(map[string]int)}
	defer func() { _ = os.RemoveAll(r.dir) }()
	if err := r.start(ctx); err != nil {
		return nil, errors.Join(err, r.stop())
	}
	unsettled := r.drive(ctx)
	left := r.left()
	letters, err := r.deadLetters(context.WithoutCancel(ctx))
	if err := errors.Join(err, r.stop(), errors.Join(r.errs...)); err != nil {
		return nil, r.explain(err)
	}
	events, err := readLedgers(r.dir)
	if err != nil {
		return nil, err
	}
	rep := check(events, letters)
	if unsettled != nil {
		for _, work := range left {
			rep.violations = append(rep.violations, work+": its task is still there")
		}
		rep.violations = append(rep.violations, "the tasks did not settle: "+unsettled.Error())
	}
	rep.tell(events)
	rep.took, rep.troubles = time.Since(start), r.events
	return rep, nil
}

func (r *rig) start(ctx context.Context) (err error) {
	if r.dir, err = os.MkdirTemp("", "chaos-"); err != nil {
		return err
	}
	if r.ledger, err = openLedger(filepath.Join(r.dir, "ledger-rig")); err != nil {
		return err
	}
	if r.redis, err = startRedis(ctx, r.dir); err != nil {
		return err
	}
	r.store = r.redis
	return r.startCloud(ctx, roleWorker, r.redis.addr)
}

// startCloud starts Cloud Tasks, and the workers behind a proxy to their store each.
func (r *rig) startCloud(ctx context.Context, role, store string) (err error) {
	r.fleet = &fleet{
		role: role, dir: r.dir, url: "http://worker.internal", ledger: r.ledger,
		transport: &http.Transport{MaxIdleConnsPerHost: 1000},
	}
	if r.tasks, err = emulator.New(emulator.Config{GRPCAddr: "127.0.0.1:0", Transport: r.fleet}); err != nil {
		return err
	}
	r.fleet.emulator = r.tasks.GRPCAddr()
	if err := os.WriteFile(filepath.Join(r.dir, "jwks.json"), r.tasks.JWKS(), 0o600); err != nil {
		return err
	}
	if r.client, err = newClient(r.fleet.url, r.tasks.ClientOptions()); err != nil {
		return err
	}
	if r.admin, err = cloudtasks.NewClient(ctx, r.tasks.ClientOptions()...); err != nil {
		return err
	}
	if err := r.createQueues(ctx); err != nil {
		return err
	}
	r.deliverTwice()
	for range r.config.workers {
		proxy, err := startProxy(store)
		if err != nil {
			return err
		}
		s := &slot{proxy: proxy}
		r.fleet.slots = append(r.fleet.slots, s)
		if err := r.fleet.launch(s); err != nil {
			return err
		}
	}
	return nil
}

func newClient(url string, opts []option.ClientOption) (*handoff.Client, error) {
	return handoff.NewClient(context.Background(), handoff.ClientConfig{
		Project: project, Location: location,
		Target:  handoff.HTTPTarget{URL: url + "/tasks", ServiceAccount: account},
		Options: opts,
	})
}

func queueName(i int) string { return fmt.Sprintf("chaos-%d", i%queues) }

// deliverTwice makes Cloud Tasks deliver the tasks of one queue twice at once
// and those of another again after success: a fifth of all tasks each.
func (r *rig) deliverTwice() {
	r.tasks.InjectDispatch(emulator.DispatchFault{Queue: queueName(0), Twice: true})
	r.tasks.InjectDispatch(emulator.DispatchFault{Queue: queueName(1), Again: true})
}

func (r *rig) createQueues(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second) // the service takes no call with a deadline beyond 30 s
	defer cancel()
	for i := range queues {
		_, err := r.admin.CreateQueue(ctx, &cloudtaskspb.CreateQueueRequest{Parent: parent, Queue: &cloudtaskspb.Queue{
			Name:       parent + "/queues/" + queueName(i),
			RateLimits: &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 500, MaxConcurrentDispatches: 60},
			RetryConfig: &cloudtaskspb.RetryConfig{
				MaxAttempts: -1, MinBackoff: durationpb.New(100 * time.Millisecond), MaxBackoff: durationpb.New(time.Second),
			},
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// drive enqueues, makes trouble meanwhile, and waits until Cloud Tasks has
// nothing left.
func (r *rig) drive(ctx context.Context) error {
	random := rand.New(rand.NewPCG(r.config.seed, 1))
	requests := newRequests(random, r.config.tasks)
	troubled, calm := context.WithTimeout(ctx, r.config.trouble)
	defer calm()
	var wg sync.WaitGroup
	wg.Go(func() { r.trouble(troubled, random) })
	wg.Go(func() {
		random := rand.New(rand.NewPCG(r.config.seed, 3))
		for pause(troubled, 500*time.Millisecond) {
			_, _ = r.redriveSome(troubled, random) // Redis may be away
		}
	})
	err := errors.Join(r.enqueueLong(ctx), r.enqueue(ctx, requests))
	if err == nil {
		err = r.settle(ctx, calm)
	}
	calm()
	wg.Wait()
	if err == nil {
		err = r.redriveAll(ctx)
	}
	return err
}

// left returns the work of the tasks that are left.
func (r *rig) left() (works []string) {
	for i := range queues {
		for _, task := range r.tasks.Tasks(queueName(i)) {
			works = append(works, task.GetHttpRequest().GetHeaders()[headerWork])
		}
	}
	return works
}

// enqueue hands the tasks over, a few at a time.
func (r *rig) enqueue(ctx context.Context, requests []request) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range next {
				if err := r.enqueueOne(ctx, requests[i], queueName(i)); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range requests {
		next <- i
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

func (r *rig) enqueueOne(ctx context.Context, q request, queue string) (err error) {
	enqueued := event{What: evEnqueued, ID: q.work, Out: q.job.Act}
	switch {
	case q.shared:
		enqueued.Origin = originShared
	case q.foreign:
		enqueued.Origin = originForeign
	}
	if q.foreign {
		err = r.createForeign(ctx, q, queue)
	} else {
		_, err = r.client.Enqueue(ctx, q.payload(), handoff.OnQueue(queue), handoff.Header(headerWork, q.work))
	}
	if err == nil {
		r.ledger.write(enqueued)
	}
	return err
}

// settle waits for the end. The last tasks get calm: what is to be shown is
// that all of them arrive, not that one can be kept away for ever.
func (r *rig) settle(ctx context.Context, calm func()) error {
	for {
		left := 0
		for i := range queues {
			left += len(r.tasks.Tasks(queueName(i)))
		}
		if left <= r.config.tasks/50 {
			break
		}
		if !pause(ctx, 500*time.Millisecond) {
			return fmt.Errorf("%d tasks are left: %w", left, context.Cause(ctx))
		}
	}
	calm()
	return r.tasks.Wait(ctx)
}

func (r *rig) stop() error {
	var errs []error
	if r.fleet != nil {
		errs = append(errs, r.fleet.close())
	}
	if r.client != nil {
		errs = append(errs, r.client.Close())
	}
	if r.admin != nil {
		errs = append(errs, r.admin.Close())
	}
	if r.tasks != nil {
		r.tasks.Close()
	}
	if r.redis != nil {
		r.redis.kill()
	}
	if r.ledger != nil {
		errs = append(errs, r.ledger.close())
	}
	return errors.Join(errs...)
}

// explain adds the end of the workers' log to an error that ended the run.
func (r *rig) explain(err error) error {
	log, _ := os.ReadFile(filepath.Join(r.dir, "workers.log"))
	return fmt.Errorf("%w\n%s", err, log[max(0, len(log)-4000):])
}
