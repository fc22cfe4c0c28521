// Package producer enqueues at an emulator, by Google's client and by handoff,
// and compares what that costs.
package producer

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/benchtest"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	location = "projects/bench/locations/here"

	// Queue is that of the tasks that are dispatched.
	Queue = "invoices"

	paused       = "paused"
	pausedParent = location + "/queues/" + paused
)

// Producer has a client of each sort, of one emulator.
type Producer struct {
	Tasks   *cloudtasks.Client
	Handoff *handoff.Client

	worker string
}

// New connects to the emulator, to have tasks delivered to the URL of a worker.
func New(ctx context.Context, emulator, worker string) (*Producer, error) {
	options := optionsFor(emulator)
	tasks, err := cloudtasks.NewClient(ctx, options...)
	if err != nil {
		return nil, err
	}
	client, err := handoff.NewClient(ctx, handoff.ClientConfig{
		Project: "bench", Location: "here",
		Target:  handoff.HTTPTarget{URL: worker, ServiceAccount: oidctest.Email, Audience: oidctest.Audience},
		Policy:  handoff.Policy{Queue: Queue},
		Options: options,
	})
	if err != nil {
		return nil, errors.Join(err, tasks.Close())
	}
	return &Producer{Tasks: tasks, Handoff: client, worker: worker}, nil
}

func optionsFor(emulator string) []option.ClientOption {
	return []option.ClientOption{
		option.WithEndpoint(emulator),
		option.WithoutAuthentication(),
		option.WithTelemetryDisabled(), // on neither side: it costs more than what is measured here
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
}

// Close both clients.
func (p *Producer) Close() error { return errors.Join(p.Tasks.Close(), p.Handoff.Close()) }

// MakeQueues makes a queue that dispatches, so many tasks at once, and a paused
// one, whose tasks are no work for the emulator.
func MakeQueues(ctx context.Context, emulator string, atOnce int) error {
	tasks, err := cloudtasks.NewClient(ctx, optionsFor(emulator)...)
	if err != nil {
		return err
	}
	defer tasks.Close()
	for _, id := range []string{Queue, paused} {
		_, err := tasks.CreateQueue(ctx, &cloudtaskspb.CreateQueueRequest{Parent: location, Queue: &cloudtaskspb.Queue{
			Name:       location + "/queues/" + id,
			RateLimits: &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 1_000_000, MaxConcurrentDispatches: int32(atOnce)},
		}})
		if err != nil {
			return err
		}
	}
	_, err = tasks.PauseQueue(ctx, &cloudtaskspb.PauseQueueRequest{Name: pausedParent})
	return err
}

// Invoice comes to 300 bytes of JSON. It is read once: it is asked for where
// every microsecond is counted.
var Invoice = sync.OnceValue(func() (in benchtest.Invoice) {
	if err := json.Unmarshal([]byte(benchtest.Body), &in); err != nil {
		panic(err)
	}
	return in
})
