// Command enqueue measures what handoff adds to Google's client, in one run
// over loopback. The emulator runs as a process of its own, so that the CPU
// time of this one is the client's alone.
//
//	go run -C internal/bench ./enqueue
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"iter"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/brillconsulting/handoff/internal/bench/measure"
)

const (
	location = "projects/p/locations/l"
	queue    = location + "/queues/q"
	worker   = "https://worker.example.com"
	account  = "caller@p.iam.gserviceaccount.com"
)

// payload comes to 300 bytes of JSON.
type payload struct {
	ID   int    `json:"id"`
	Text string `json:"text"`
}

func (payload) Kind() string { return "payload" }

func newPayload(i int) payload {
	return payload{ID: 1_000_000 + i, Text: text}
}

var text = strings.Repeat("all work and no play ", 13) + "makes"

func main() {
	rounds := flag.Int("rounds", 31, "rounds of each comparison")
	calls := flag.Int("calls", 2000, "calls in a round")
	items := flag.Int("items", 1_000_000, "payloads of the batch whose memory is measured")
	serve := flag.Bool("serve", false, "be the emulator")
	flag.Parse()
	log.SetFlags(0)
	if *serve {
		serveEmulator()
		return
	}
	b, err := newBench(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer b.close()
	b.compareCreates(1, *rounds, *calls/4)
	b.compareCreates(64, *rounds, *calls)
	b.compareBatches(*rounds, 10**calls)
	b.measureMemory(*items)
}

// bench is a client of each sort, of one emulator.
type bench struct {
	ctx     context.Context
	out     io.Writer
	stop    func()
	raw     *cloudtasks.Client
	handoff *handoff.Client
}

func newBench(ctx context.Context) (*bench, error) {
	addr, stop, err := startEmulator(ctx)
	if err != nil {
		return nil, err
	}
	options := []option.ClientOption{
		option.WithEndpoint(addr),
		option.WithoutAuthentication(),
		option.WithTelemetryDisabled(), // on neither side: it costs more than what is measured here
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
	b := &bench{ctx: ctx, out: os.Stdout, stop: stop}
	if b.raw, err = cloudtasks.NewClient(ctx, options...); err != nil {
		return nil, err
	}
	b.handoff, err = handoff.NewClient(ctx, handoff.ClientConfig{
		Project: "p", Location: "l",
		Target:  handoff.HTTPTarget{URL: worker, ServiceAccount: account},
		Policy:  handoff.Policy{Queue: "q"},
		Options: options,
	})
	if err != nil {
		return nil, err
	}
	// A paused queue keeps its tasks, and the emulator its peace.
	if _, err := b.raw.CreateQueue(ctx, &cloudtaskspb.CreateQueueRequest{Parent: location, Queue: &cloudtaskspb.Queue{Name: queue}}); err != nil {
		return nil, err
	}
	_, err = b.raw.PauseQueue(ctx, &cloudtaskspb.PauseQueueRequest{Name: queue})
	return b, err
}

func (b *bench) close() {
	_ = b.handoff.Close()
	_ = b.raw.Close()
	b.stop()
}

// plain is what a program without handoff would send: the same payload, URL
// and token, and one header.
func plain(i int) *cloudtaskspb.CreateTaskRequest {
	body, err := json.Marshal(newPayload(i))
	check(err)
	return &cloudtaskspb.CreateTaskRequest{
		Parent: queue,
		Task: &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
			Url:        worker + "/payload",
			HttpMethod: cloudtaskspb.HttpMethod_POST,
			Headers:    map[string]string{"Content-Type": "application/json"},
			Body:       body,
			AuthorizationHeader: &cloudtaskspb.HttpRequest_OidcToken{OidcToken: &cloudtaskspb.OidcToken{
				ServiceAccountEmail: account,
				Audience:            worker,
			}},
		}}},
	}
}

// same is the task that handoff sends, made by hand: what it adds to this is
// its own doing, and what this adds to plain is the price of the headers.
func same(i int) *cloudtaskspb.CreateTaskRequest {
	req := plain(i)
	now := time.Now()
	header := req.Task.GetHttpRequest().Headers
	header["Handoff-Id"] = rand.Text()
	header["Handoff-Enqueued"] = strconv.FormatInt(now.UnixMilli(), 10)
	header["Handoff-Expires"] = strconv.FormatInt(now.Add(24*time.Hour).UnixMilli(), 10)
	header["Handoff-Max-Attempts"] = "5"
	req.Task.RetryConfig = &cloudtaskspb.RetryConfig{
		MaxAttempts:      -1,
		MaxRetryDuration: durationpb.New(0),
		MinBackoff:       durationpb.New(time.Second),
		MaxBackoff:       durationpb.New(time.Hour),
		MaxDoublings:     16,
	}
	return req
}

func (b *bench) create(request func(int) *cloudtaskspb.CreateTaskRequest) func(int) {
	return func(i int) {
		_, err := b.raw.CreateTask(b.ctx, request(i))
		check(err)
	}
}

func (b *bench) enqueue(i int) {
	_, err := b.handoff.Enqueue(b.ctx, newPayload(i))
	check(err)
}

// createBatches is BatchCreateTasks by hand, as many calls in flight as
// EnqueueBatch has: the floor.
func (b *bench) createBatches(n int) {
	measure.Callers(8, func(chunk int) {
		req := &cloudtaskspb.BatchCreateTasksRequest{Parent: queue}
		for i := range 100 {
			req.Requests = append(req.Requests, plain(100*chunk+i))
		}
		op, err := b.raw.BatchCreateTasks(b.ctx, req)
		check(err)
		resp, err := op.Wait(b.ctx)
		check(err)
		if len(resp.Tasks) != 100 {
			log.Fatalf("%d of 100 tasks were created", len(resp.Tasks))
		}
	})(n / 100)
}

func (b *bench) enqueueBatch(n int) {
	pairs := 0
	for _, err := range handoff.EnqueueBatch(b.ctx, b.handoff, payloads(n)) {
		check(err)
		pairs++
	}
	if pairs != n {
		log.Fatalf("%d pairs for %d payloads", pairs, n)
	}
}

func payloads(n int) iter.Seq[payload] {
	return func(yield func(payload) bool) {
		for i := range n {
			if !yield(newPayload(i)) {
				return
			}
		}
	}
}

// purged empties the queue after each round of a side. It is one call more
// among thousands; the work is the emulator's.
func (b *bench) purged(run func(n int)) func(n int) {
	return func(n int) {
		run(n)
		_, err := b.raw.PurgeQueue(b.ctx, &cloudtaskspb.PurgeQueueRequest{Name: queue})
		check(err)
	}
}

func (b *bench) compareCreates(callers, rounds, n int) {
	costs := measure.Rounds(rounds, n,
		b.purged(measure.Callers(callers, b.create(plain))),
		b.purged(measure.Callers(callers, b.create(same))),
		b.purged(measure.Callers(callers, b.enqueue)))
	b.printf("one task a call, %d at once (medians of %d rounds of %d)\n", callers, rounds, n)
	b.row("CreateTask of a plain task", costs[0])
	b.row("CreateTask of the task that handoff makes", costs[1])
	b.row("handoff.Enqueue", costs[2])
	b.added("Enqueue adds to the plain one", costs[2], costs[0])
	b.added("Enqueue adds to the same one", costs[2], costs[1])
	b.printf("\n")
}

func (b *bench) compareBatches(rounds, n int) {
	costs := measure.Rounds(rounds, n,
		b.purged(measure.Callers(64, b.create(plain))),
		b.purged(b.createBatches),
		b.purged(b.enqueueBatch))
	b.printf("many tasks (medians of %d rounds of %d)\n", rounds, n)
	b.row("CreateTask of plain tasks, 64 at once", costs[0])
	b.row("BatchCreateTasks of plain tasks, 8 at once", costs[1])
	b.row("handoff.EnqueueBatch", costs[2])
	single, batch := measure.Median(costs[0], measure.ByCPU), measure.Median(costs[2], measure.ByCPU)
	b.printf("  EnqueueBatch takes %.1f times less CPU a task than CreateTask\n\n", single/batch)
}

func (b *bench) row(name string, costs []measure.Cost) {
	b.printf("  %-44s %8.2f µs CPU  %8.1f µs  %6.1f allocs\n", name,
		measure.Median(costs, measure.ByCPU), measure.Median(costs, measure.ByWall), measure.Median(costs, measure.ByAllocs))
}

func (b *bench) added(name string, costs, to []measure.Cost) {
	b.printf("  %-44s %+8.2f µs CPU  %+8.1f µs  %+6.1f allocs\n", name, measure.MedianDifference(costs, to, measure.ByCPU),
		measure.MedianDifference(costs, to, measure.ByWall), measure.MedianDifference(costs, to, measure.ByAllocs))
}

func (b *bench) printf(format string, args ...any) { fmt.Fprintf(b.out, format, args...) }

func (b *bench) measureMemory(n int) {
	before := measure.CPU()
	peak := measure.PeakHeap(func() { b.enqueueBatch(n) })
	each := float64((measure.CPU() - before).Microseconds()) / float64(n)
	b.printf("a batch of %d: peak heap %.1f MB, %.1f µs CPU a task\n", n, float64(peak)/1e6, each)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
