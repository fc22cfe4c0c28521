package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"iter"
	"strconv"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
	"github.com/hibiken/asynq"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/brillconsulting/handoff/internal/bench/measure"
)

// Ways to enqueue.
const (
	bareCreate  = "CreateTask of a plain task"
	sameCreate  = "CreateTask of the task that handoff makes"
	enqueue     = "handoff.Enqueue"
	asynqCreate = "asynq Enqueue"
	bareBatch   = "BatchCreateTasks of plain tasks, 8 at once"
	batch       = "handoff.EnqueueBatch"
	riverMany   = "river InsertMany, 1,000 at a time"
)

// side is one way to enqueue n tasks, and who takes them in.
type side struct {
	name   string
	server int // PID
	run    func(n int) error
	empty  func() error // afterwards
}

// compare measures the ways to enqueue one task a call, and those to enqueue
// many where the order names no callers.
func (p *producer) compare(ctx context.Context, o order) ([]sideCosts, error) {
	emulator, redis, postgres := p.setup.EmulatorPID, p.setup.RedisPID, p.setup.PostgresPID
	sides := []side{
		{bareBatch, emulator, func(n int) error { return p.createBatches(ctx, n) }, func() error { return p.purge(ctx) }},
		{batch, emulator, func(n int) error { return p.enqueueBatch(ctx, n) }, func() error { return p.purge(ctx) }},
		{riverMany, postgres, func(n int) error { return p.insertMany(ctx, n) }, func() error { return truncateRiver(ctx, p.pool) }},
	}
	if o.Callers > 0 {
		each := func(call func() error) func(n int) error {
			return func(n int) error { return send(ctx, order{Tasks: n, Callers: o.Callers}, call) }
		}
		sides = []side{
			{bareCreate, emulator, each(func() error { return p.create(ctx, plain()) }), func() error { return p.purge(ctx) }},
			{sameCreate, emulator, each(func() error { return p.create(ctx, same()) }), func() error { return p.purge(ctx) }},
			{enqueue, emulator, each(func() error { return p.enqueue(ctx) }), func() error { return p.purge(ctx) }},
			{asynqCreate, redis, each(func() error { return p.enqueueAsynq(ctx) }), func() error { return p.rdb.FlushAll(ctx).Err() }},
		}
	}
	return runSides(o.Rounds, o.Tasks, sides)
}

// runSides runs the sides in turn. The call that empties the server is one among
// thousands.
func runSides(rounds, n int, sides []side) ([]sideCosts, error) {
	var failed error
	costs := make([]sideCosts, len(sides))
	runs := make([]func(int), len(sides))
	for i, s := range sides {
		costs[i].Name = s.name
		runs[i] = func(n int) {
			before, err := measure.CPUOfFamily(s.server)
			if err == nil && failed == nil {
				err = s.run(n)
			}
			after, cpuErr := measure.CPUOfFamily(s.server)
			costs[i].Server = append(costs[i].Server, perTask(after-before, n))
			if err == nil && cpuErr == nil && failed == nil {
				err = s.empty()
			}
			if failed == nil && (err != nil || cpuErr != nil) {
				failed = fmt.Errorf("%s: %w", s.name, firstOf(err, cpuErr))
			}
		}
	}
	for i, c := range measure.Rounds(rounds, n, runs...) {
		costs[i].Costs = c
		costs[i].Server = costs[i].Server[1:] // the first round warmed up
	}
	return costs, failed
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// plain is what a program without handoff would send: the same payload, URL and
// token, and one header.
func plain() *cloudtaskspb.CreateTaskRequest {
	return &cloudtaskspb.CreateTaskRequest{
		Parent: location + "/queues/" + pausedQueue,
		Task: &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
			Url:        "https://worker.example.com/tasks/" + kind,
			HttpMethod: cloudtaskspb.HttpMethod_POST,
			Headers:    map[string]string{"Content-Type": "application/json"},
			Body:       body(newInvoice()),
			AuthorizationHeader: &cloudtaskspb.HttpRequest_OidcToken{OidcToken: &cloudtaskspb.OidcToken{
				ServiceAccountEmail: oidctest.Email,
				Audience:            oidctest.Audience,
			}},
		}}},
	}
}

// same is the task that handoff sends, made by hand: what handoff adds to this
// is its own doing, and what this adds to plain is the price of the headers.
func same() *cloudtaskspb.CreateTaskRequest {
	req := plain()
	now := time.Now()
	header := req.Task.GetHttpRequest().Headers
	header["Handoff-Id"] = rand.Text()
	header["Handoff-Enqueued"] = strconv.FormatInt(now.UnixMilli(), 10)
	header["Handoff-Expires"] = strconv.FormatInt(now.Add(24*time.Hour).UnixMilli(), 10)
	header["Handoff-Max-Attempts"] = "5"
	req.Task.RetryConfig = &cloudtaskspb.RetryConfig{
		MaxAttempts: -1, MaxRetryDuration: durationpb.New(0),
		MinBackoff: durationpb.New(time.Second), MaxBackoff: durationpb.New(time.Hour), MaxDoublings: 16,
	}
	return req
}

func (p *producer) create(ctx context.Context, req *cloudtaskspb.CreateTaskRequest) error {
	_, err := p.tasks.CreateTask(ctx, req)
	return err
}

func (p *producer) enqueue(ctx context.Context) error {
	_, err := p.typed.Enqueue(ctx, newInvoice(), handoff.OnQueue(pausedQueue))
	return err
}

func (p *producer) enqueueAsynq(ctx context.Context) error {
	_, err := p.asynq.EnqueueContext(ctx, asynq.NewTask(kind, body(newInvoice())))
	return err
}

func (p *producer) purge(ctx context.Context) error {
	_, err := p.tasks.PurgeQueue(ctx, &cloudtaskspb.PurgeQueueRequest{Name: location + "/queues/" + pausedQueue})
	return err
}

// createBatches is BatchCreateTasks by hand, as many calls in flight as
// EnqueueBatch has: the floor.
func (p *producer) createBatches(ctx context.Context, n int) error {
	return send(ctx, order{Tasks: n / 100, Callers: 8}, func() error {
		req := &cloudtaskspb.BatchCreateTasksRequest{Parent: location + "/queues/" + pausedQueue}
		for range 100 {
			req.Requests = append(req.Requests, plain())
		}
		op, err := p.tasks.BatchCreateTasks(ctx, req)
		if err != nil {
			return err
		}
		resp, err := op.Wait(ctx)
		if err != nil {
			return err
		}
		if len(resp.Tasks) != 100 {
			return fmt.Errorf("%d of 100 tasks were created", len(resp.Tasks))
		}
		return nil
	})
}

func (p *producer) enqueueBatch(ctx context.Context, n int) error {
	pairs := 0
	for _, err := range handoff.EnqueueBatch(ctx, p.typed, invoices(n), handoff.OnQueue(pausedQueue)) {
		if err != nil {
			return err
		}
		pairs++
	}
	if pairs != n {
		return fmt.Errorf("%d receipts for %d payloads", pairs, n)
	}
	return nil
}

func invoices(n int) iter.Seq[invoice] {
	return func(yield func(invoice) bool) {
		for range n {
			if !yield(newInvoice()) {
				return
			}
		}
	}
}

func (p *producer) insertMany(ctx context.Context, n int) error {
	for left := n; left > 0; left -= 1000 {
		if _, err := p.river.InsertMany(ctx, manyInvoices(min(left, 1000))); err != nil {
			return err
		}
	}
	return nil
}

// largeBatch is what an EnqueueBatch of so many holds in memory at most.
func (p *producer) largeBatch(ctx context.Context, n int) (answer, error) {
	var err error
	before := measure.CPU()
	peak := measure.PeakHeap(func() { err = p.enqueueBatch(ctx, n) })
	cost := measure.Cost{CPU: perTask(measure.CPU()-before, n)}
	return answer{Heap: peak, Costs: []sideCosts{{Name: batch, Costs: []measure.Cost{cost}}}}, firstOf(err, p.purge(ctx))
}
