package producer

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"iter"
	"strconv"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/benchtest"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/brillconsulting/handoff/internal/bench/measure"
)

// Names of the ways to enqueue.
const (
	BareCreate = "CreateTask of a plain task"
	SameCreate = "CreateTask of the task that handoff makes"
	Enqueue    = "handoff.Enqueue"
	BareBatch  = "BatchCreateTasks of plain tasks, 8 at once"
	Batch      = "handoff.EnqueueBatch"
)

// One returns the ways to enqueue one task a call, with so many callers.
func (p *Producer) One(ctx context.Context, emulator, callers int) []Way {
	return []Way{
		p.way(ctx, BareCreate, emulator, callers, func(int) error { return p.create(ctx, p.plain()) }),
		p.way(ctx, SameCreate, emulator, callers, func(int) error { return p.create(ctx, p.same()) }),
		p.way(ctx, Enqueue, emulator, callers, func(int) error { return p.enqueue(ctx) }),
	}
}

// Many returns the ways to enqueue many tasks a call.
func (p *Producer) Many(ctx context.Context, emulator int) []Way {
	purge := func() error { return p.purge(ctx) }
	return []Way{
		{BareBatch, emulator, func(n int) error { return p.createBatches(ctx, n) }, purge},
		{Batch, emulator, func(n int) error { return p.enqueueBatch(ctx, n) }, purge},
	}
}

func (p *Producer) way(ctx context.Context, name string, emulator, callers int, call func(i int) error) Way {
	return Way{name, emulator,
		func(n int) error { return measure.Calls(ctx, n, callers, 0, call) },
		func() error { return p.purge(ctx) },
	}
}

// plain is what a program without handoff would send: the same payload, URL and
// token, and one header.
func (p *Producer) plain() *cloudtaskspb.CreateTaskRequest {
	body, err := json.Marshal(Invoice())
	if err != nil {
		panic(err) // the payload is ours
	}
	return &cloudtaskspb.CreateTaskRequest{
		Parent: pausedParent,
		Task: &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
			Url:        p.worker + "/invoice",
			HttpMethod: cloudtaskspb.HttpMethod_POST,
			Headers:    map[string]string{"Content-Type": "application/json"},
			Body:       body,
			AuthorizationHeader: &cloudtaskspb.HttpRequest_OidcToken{OidcToken: &cloudtaskspb.OidcToken{
				ServiceAccountEmail: oidctest.Email,
				Audience:            oidctest.Audience,
			}},
		}}},
	}
}

// same is the task that handoff sends, made by hand: what handoff adds to this
// is its own doing, and what this adds to plain is the price of the headers.
func (p *Producer) same() *cloudtaskspb.CreateTaskRequest {
	req := p.plain()
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

func (p *Producer) create(ctx context.Context, req *cloudtaskspb.CreateTaskRequest) error {
	_, err := p.Tasks.CreateTask(ctx, req)
	return err
}

func (p *Producer) enqueue(ctx context.Context) error {
	_, err := p.Handoff.Enqueue(ctx, Invoice(), handoff.OnQueue(paused))
	return err
}

func (p *Producer) purge(ctx context.Context) error {
	_, err := p.Tasks.PurgeQueue(ctx, &cloudtaskspb.PurgeQueueRequest{Name: pausedParent})
	return err
}

// createBatches is BatchCreateTasks by hand, as many calls in flight as
// EnqueueBatch has: the floor.
func (p *Producer) createBatches(ctx context.Context, n int) error {
	return measure.Calls(ctx, n/100, 8, 0, func(int) error {
		req := &cloudtaskspb.BatchCreateTasksRequest{Parent: pausedParent}
		for range 100 {
			req.Requests = append(req.Requests, p.plain())
		}
		op, err := p.Tasks.BatchCreateTasks(ctx, req)
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

func (p *Producer) enqueueBatch(ctx context.Context, n int) error {
	pairs := 0
	for _, err := range handoff.EnqueueBatch(ctx, p.Handoff, invoices(n), handoff.OnQueue(paused)) {
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

func invoices(n int) iter.Seq[benchtest.Invoice] {
	return func(yield func(benchtest.Invoice) bool) {
		for range n {
			if !yield(Invoice()) {
				return
			}
		}
	}
}
