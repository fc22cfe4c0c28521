package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff/emulator"
)

// drainTime is how long attempts in flight may go on after a signal.
const drainTime = 10 * time.Second

type emulatorCmd struct {
	GRPC   string   `default:"127.0.0.1:8123"                                help:"Where the gRPC API listens (${default})."               name:"grpc"        placeholder:"ADDR"`
	HTTP   string   `default:"127.0.0.1:8124"                                help:"Where REST and the token keys are served (${default})." name:"http"        placeholder:"ADDR"`
	Queues []string `help:"A queue to create, by its full name. Repeatable." name:"queue"                                                  placeholder:"NAME"`
}

// Help is shown by handoff emulator --help.
func (*emulatorCmd) Help() string {
	return `It is ready when it prints its addresses; port 0 picks a free one. It keeps everything in memory and forgets it at the end. ` +
		`SIGINT or SIGTERM ends it once the attempts in flight have ended, or after 10 seconds; a second one ends it at once.`
}

// Run serves until ctx ends, then drains.
func (c *emulatorCmd) Run(ctx context.Context) error {
	srv, err := emulator.New(emulator.Config{GRPCAddr: c.GRPC, HTTPAddr: c.HTTP})
	if err != nil {
		return err
	}
	defer srv.Close()
	if err := createQueues(ctx, srv, c.Queues); err != nil {
		return err
	}
	fmt.Printf("handoff emulator: ready, gRPC on %s, HTTP on %s\n", srv.GRPCAddr(), srv.HTTPAddr())
	<-ctx.Done()

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	drain(ctx, srv)
	return nil
}

// createQueues creates the queues that were asked for and reports all that
// could not be.
func createQueues(ctx context.Context, srv *emulator.Server, names []string) error {
	client := cloudtaskspb.NewCloudTasksClient(srv.Conn())
	var errs []error
	for _, name := range names {
		// UpdateQueue creates what is not there, whatever its location.
		_, err := client.UpdateQueue(ctx, &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{Name: name}})
		if err != nil {
			errs = append(errs, fmt.Errorf("--queue %s: %s", name, status.Convert(err).Message()))
		}
	}
	return errors.Join(errs...)
}

// drain lets the attempts in flight end and starts no more.
func drain(ctx context.Context, srv *emulator.Server) {
	client := cloudtaskspb.NewCloudTasksClient(srv.Conn())
	for _, q := range srv.Queues() {
		// The queue may have been deleted just now, which stops it as well.
		_, _ = client.PauseQueue(ctx, &cloudtaskspb.PauseQueueRequest{Name: q.GetName()})
	}
	_ = srv.Wait(ctx) // its only error is that the time is up
}
