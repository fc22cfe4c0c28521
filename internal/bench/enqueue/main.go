// Command enqueue measures what handoff adds to Google's client, in one run
// over loopback. The emulator runs as a process of its own, so that the CPU
// time of this one is the client's alone.
//
//	go run -C internal/bench ./enqueue
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"iter"
	"log"
	"os"
	"strings"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

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
	rounds := flag.Int("rounds", 15, "rounds of each comparison")
	calls := flag.Int("calls", 4000, "calls in a round")
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
	b.compareBatches(*rounds, 5**calls)
	b.measureMemory(*items)
}

// bench is a client of each sort, of one emulator.
type bench struct {
	ctx     context.Context
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
	b := &bench{ctx: ctx, stop: stop}
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

// request is what a program without handoff would send: the same payload, URL
// and token, and one header.
func request(i int) *cloudtaskspb.CreateTaskRequest {
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

func (b *bench) create(i int) {
	_, err := b.raw.CreateTask(b.ctx, request(i))
	check(err)
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
			req.Requests = append(req.Requests, request(100*chunk+i))
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
func (b *bench) purged(run func(int)) func(int) {
	return func(n int) {
		run(n)
		_, err := b.raw.PurgeQueue(b.ctx, &cloudtaskspb.PurgeQueueRequest{Name: queue})
		check(err)
	}
}

func (b *bench) compareCreates(callers, rounds, n int) {
	costs := measure.Rounds(rounds, n,
		measure.Side{Name: "CreateTask", Run: b.purged(measure.Callers(callers, b.create))},
		measure.Side{Name: "Enqueue", Run: b.purged(measure.Callers(callers, b.enqueue))})
	fmt.Fprintf(os.Stdout, "one task a call, %d at once (median of %d rounds of %d)\n", callers, rounds, n)
	row("Google's client, CreateTask", costs[0])
	row("handoff, Enqueue", costs[1])
	fmt.Fprintf(os.Stdout, "  %-38s %8.2f %24.1f\n\n", "added", measure.MedianDifference(costs[1], costs[0], measure.ByCPU),
		measure.MedianDifference(costs[1], costs[0], measure.ByAllocs))
}

func (b *bench) compareBatches(rounds, n int) {
	costs := measure.Rounds(rounds, n,
		measure.Side{Name: "CreateTask", Run: b.purged(measure.Callers(64, b.create))},
		measure.Side{Name: "BatchCreateTasks", Run: b.purged(b.createBatches)},
		measure.Side{Name: "EnqueueBatch", Run: b.purged(b.enqueueBatch)})
	fmt.Fprintf(os.Stdout, "many tasks (median of %d rounds of %d)\n", rounds, n)
	row("Google's client, CreateTask, 64 at once", costs[0])
	row("Google's client, BatchCreateTasks", costs[1])
	row("handoff, EnqueueBatch", costs[2])
	single, batch := measure.Median(costs[0], measure.ByCPU), measure.Median(costs[2], measure.ByCPU)
	fmt.Fprintf(os.Stdout, "  EnqueueBatch takes %.1f times less CPU a task than CreateTask\n\n", single/batch)
}

func row(name string, costs []measure.Cost) {
	fmt.Fprintf(os.Stdout, "  %-38s %8.2f µs CPU  %8.1f µs  %6.1f allocs\n", name,
		measure.Median(costs, measure.ByCPU), measure.Median(costs, measure.ByWall), measure.Median(costs, measure.ByAllocs))
}

func (b *bench) measureMemory(n int) {
	before := measure.CPU()
	peak := measure.PeakHeap(func() { b.enqueueBatch(n) })
	each := float64((measure.CPU() - before).Microseconds()) / float64(n)
	fmt.Fprintf(os.Stdout, "a batch of %d: peak heap %.1f MB, %.1f µs CPU a task\n", n, float64(peak)/1e6, each)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
