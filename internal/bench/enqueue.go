package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"strconv"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
	"github.com/brillconsulting/handoff/internal/wire"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/brillconsulting/handoff/internal/bench/measure"
)

// Ways to enqueue.
const (
	bareCreate  = "CreateTask of the same task"
	viaEnqueue  = "handoff.Enqueue"
	bareBatch   = "BatchCreateTasks of the same tasks, 8 at once"
	viaBatch    = "handoff.EnqueueBatch"
	location    = "projects/bench/locations/here"
	queue       = "invoices"
	queueName   = location + "/queues/" + queue
	batchCalls  = 8 // in flight, as in EnqueueBatch
	batchLength = 100
)

// enqueuing compares handoff's client with Google's: single tasks, from 1 caller
// and from 64, and batches.
func (l *lab) enqueuing(ctx context.Context, report *Report) error {
	emulator, err := l.child(ctx, "emulator", setup{Variant: "forgetful"})
	if err != nil {
		return err
	}
	p, err := l.child(ctx, "producer", setup{Emulator: emulator.first.Addr})
	if err != nil {
		return err
	}
	for _, c := range []command{
		{Do: "compare", Callers: 1, Tasks: l.creates / 4},
		{Do: "compare", Callers: 64, Tasks: l.creates},
		{Do: "compare", Tasks: 10 * l.creates},
	} {
		l.progress("enqueue, " + map[int]string{1: "one caller", 64: "64 callers", 0: "many"}[c.Callers])
		c.Rounds = 6 * l.rounds // their differences are small
		r, err := p.ask(c)
		if err != nil {
			return err
		}
		report.enqueued(r.Costs, c.Callers)
	}
	l.progress("memory of a large batch")
	r, err := p.ask(command{Do: "batch", Tasks: l.batchMemory})
	report.relate("heap of one EnqueueBatch of "+grouped(int64(l.batchMemory)), float64(r.Heap)/1e6, "MB", 64, "")
	return err
}

// enqueued adds a row for the bare client, one for handoff's, and their relation.
func (r *Report) enqueued(costs [][]measure.Cost, callers int) {
	names := []string{bareCreate, viaEnqueue}
	if callers == 0 {
		names = []string{bareBatch, viaBatch}
	}
	for i, name := range names {
		r.Rows = append(r.Rows, Row{
			Section: "enqueue", Name: name, InFlight: callers,
			CPU:       map[string]Figure{producerCPU: figureOfCosts(costs[i], measure.ByCPU)},
			Allocated: figureOfCosts(costs[i], measure.ByAllocs),
		})
	}
	bare, ours := costs[0], costs[1]
	if callers == 0 {
		r.relate(viaBatch, measure.Median(ours, measure.ByCPU)/measure.Median(bare, measure.ByCPU), "times BatchCreateTasks of the same tasks", 1.25, "")
		return
	}
	of := viaEnqueue + ", " + map[int]string{1: "one caller", 64: "64 callers"}[callers]
	r.relate(of, measure.MedianDifference(ours, bare, measure.ByCPU), "µs over CreateTask of the same task", 5, "")
	r.relate(of, measure.MedianDifference(ours, bare, measure.ByAllocs), "allocations over it", 5, "")
}

func figureOfCosts(costs []measure.Cost, of func(measure.Cost) float64) Figure {
	values := make([]float64, len(costs))
	for i, c := range costs {
		values[i] = of(c)
	}
	return figure(values)
}

// producing is the process that enqueues. The queue, in an emulator, is paused.
type producing struct {
	tasks   *cloudtasks.Client
	handoff *handoff.Client
	model   *cloudtaskspb.Task // the task that handoff creates for an invoice
}

func optionsFor(emulator string) []option.ClientOption {
	return []option.ClientOption{
		option.WithEndpoint(emulator),
		option.WithoutAuthentication(),
		option.WithTelemetryDisabled(), // for both clients, because it costs more than what is measured
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
}

func newProducer(ctx context.Context, s setup) (role, reply, error) {
	tasks, err := cloudtasks.NewClient(ctx, optionsFor(s.Emulator)...)
	if err != nil {
		return nil, reply{}, err
	}
	p := &producing{tasks: tasks}
	if p.handoff, err = newClient(ctx, optionsFor(s.Emulator)); err != nil {
		return nil, reply{}, err
	}
	if _, err := tasks.CreateQueue(ctx, &cloudtaskspb.CreateQueueRequest{Parent: location, Queue: &cloudtaskspb.Queue{Name: queueName}}); err != nil {
		return nil, reply{}, err
	}
	if _, err := tasks.PauseQueue(ctx, &cloudtaskspb.PauseQueueRequest{Name: queueName}); err != nil {
		return nil, reply{}, err
	}
	p.model, err = modelOf(ctx, s.Emulator)
	return p, reply{}, err
}

func newClient(ctx context.Context, options []option.ClientOption) (*handoff.Client, error) {
	return handoff.NewClient(ctx, handoff.ClientConfig{
		Project: "bench", Location: "here",
		Target:  handoff.HTTPTarget{URL: "https://worker.example.com/tasks", ServiceAccount: oidctest.Email, Audience: oidctest.Audience},
		Policy:  handoff.Policy{Queue: queue},
		Options: options,
	})
}

// modelOf returns the task that handoff's client sends, as an interceptor sees it.
func modelOf(ctx context.Context, emulator string) (model *cloudtaskspb.Task, err error) {
	client, err := newClient(ctx, append(optionsFor(emulator), option.WithGRPCDialOption(grpc.WithUnaryInterceptor(
		func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			if create, ok := req.(*cloudtaskspb.CreateTaskRequest); ok {
				model = create.GetTask()
			}
			return invoke(ctx, method, req, reply, cc, opts...)
		}))))
	if err != nil {
		return nil, err
	}
	_, err = client.Enqueue(ctx, newInvoice())
	if err == nil && model.GetHttpRequest().GetHeaders()[wire.HeaderID] == "" {
		err = errors.New("the interceptor saw no task from handoff's client")
	}
	return model, errors.Join(err, client.Close())
}

// same builds by hand the task that handoff creates for an invoice.
func (p *producing) same() *cloudtaskspb.CreateTaskRequest {
	body, err := json.Marshal(newInvoice())
	if err != nil {
		panic(err) // cannot fail: the payload is fixed
	}
	model, now := p.model.GetHttpRequest(), time.Now()
	header := maps.Clone(model.GetHeaders())
	header[wire.HeaderID] = rand.Text()
	header["Handoff-Enqueued"] = strconv.FormatInt(now.UnixMilli(), 10)
	header["Handoff-Expires"] = strconv.FormatInt(now.Add(24*time.Hour).UnixMilli(), 10)
	retry := p.model.GetRetryConfig()
	return &cloudtaskspb.CreateTaskRequest{
		Parent: queueName,
		Task: &cloudtaskspb.Task{
			RetryConfig: &cloudtaskspb.RetryConfig{
				MaxAttempts: retry.GetMaxAttempts(), MaxRetryDuration: durationpb.New(retry.GetMaxRetryDuration().AsDuration()),
				MinBackoff: durationpb.New(retry.GetMinBackoff().AsDuration()), MaxBackoff: durationpb.New(retry.GetMaxBackoff().AsDuration()),
				MaxDoublings: retry.GetMaxDoublings(),
			},
			MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
				Url: model.GetUrl(), HttpMethod: model.GetHttpMethod(), Headers: header, Body: body,
				AuthorizationHeader: &cloudtaskspb.HttpRequest_OidcToken{OidcToken: &cloudtaskspb.OidcToken{
					ServiceAccountEmail: model.GetOidcToken().GetServiceAccountEmail(), Audience: model.GetOidcToken().GetAudience(),
				}},
			}},
		},
	}
}

func (p *producing) do(ctx context.Context, c command) (reply, error) {
	switch c.Do {
	case "compare":
		costs, err := p.compare(ctx, c)
		return reply{Costs: costs}, err
	case "batch":
		var err error
		peak := measure.PeakHeap(func() { err = p.enqueueBatch(ctx, c.Tasks) })
		return reply{Heap: peak}, errors.Join(err, p.purge(ctx))
	}
	return reply{}, fmt.Errorf("cannot %q", c.Do)
}

// compare runs Google's client and handoff's in turn, with one task per call, or
// with batches if c.Callers is 0. The purge of the queue is counted too; it is one
// call among thousands.
func (p *producing) compare(ctx context.Context, c command) ([][]measure.Cost, error) {
	calls := func(call func() error) func(int) error {
		return func(n int) error { return measure.Calls(ctx, n, c.Callers, 0, func(int) error { return call() }) }
	}
	ways := []func(n int) error{
		calls(func() error { _, err := p.tasks.CreateTask(ctx, p.same()); return err }),
		calls(func() error { _, err := p.handoff.Enqueue(ctx, newInvoice()); return err }),
	}
	if c.Callers == 0 {
		ways = []func(n int) error{
			func(n int) error { return p.createBatches(ctx, n) },
			func(n int) error { return p.enqueueBatch(ctx, n) },
		}
	}
	var failed error
	runs := make([]func(int), len(ways))
	for i, way := range ways {
		runs[i] = func(n int) {
			if failed == nil {
				failed = errors.Join(way(n), p.purge(ctx))
			}
		}
	}
	costs := measure.Rounds(c.Rounds, c.Tasks, runs...)
	return costs, failed
}

func (p *producing) purge(ctx context.Context) error {
	_, err := p.tasks.PurgeQueue(ctx, &cloudtaskspb.PurgeQueueRequest{Name: queueName})
	return err
}

func (p *producing) createBatches(ctx context.Context, n int) error {
	return measure.Calls(ctx, n/batchLength, batchCalls, 0, func(int) error {
		req := &cloudtaskspb.BatchCreateTasksRequest{Parent: queueName}
		for range batchLength {
			req.Requests = append(req.Requests, p.same())
		}
		op, err := p.tasks.BatchCreateTasks(ctx, req)
		if err != nil {
			return err
		}
		resp, err := op.Wait(ctx)
		if err == nil && len(resp.GetTasks()) != batchLength {
			err = fmt.Errorf("%d of %d tasks were created", len(resp.GetTasks()), batchLength)
		}
		return err
	})
}

func (p *producing) enqueueBatch(ctx context.Context, n int) error {
	var payloads iter.Seq[invoice] = func(yield func(invoice) bool) {
		for range n {
			if !yield(newInvoice()) {
				return
			}
		}
	}
	pairs := 0
	for _, err := range handoff.EnqueueBatch(ctx, p.handoff, payloads) {
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

func (p *producing) close() error { return errors.Join(p.tasks.Close(), p.handoff.Close()) }
