package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/alicebob/miniredis/v2"
	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
)

const (
	localParent = "projects/local/locations/europe-west1"
	localCaller = "tasks@local.iam.gserviceaccount.com"
)

// serveLocal runs the service with everything around it in this process: the
// emulator for Cloud Tasks, miniredis for Redis, and a producer.
func serveLocal(ctx context.Context, log *slog.Logger) error {
	tasks, err := emulator.New(emulator.Config{})
	if err != nil {
		return err
	}
	defer tasks.Close()
	mini, err := miniredis.Run()
	if err != nil {
		return err
	}
	defer mini.Close()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	url := "http://" + listener.Addr().String()
	cfg, err := configure(func(name string) string {
		return map[string]string{"AUDIENCES": url, "CALLERS": localCaller, "REDIS_URL": "redis://" + mini.Addr()}[name]
	})
	if err != nil {
		return err
	}
	cfg.keys = handoff.StaticKeys(tasks.JWKS())

	produced := make(chan error, 1)
	producing, stop := context.WithCancel(ctx)
	go func() { produced <- produce(producing, tasks, url) }()
	err = serve(ctx, listener, cfg, log)
	stop()
	return errors.Join(err, <-produced)
}

// produce creates the queue and enqueues a task every second until ctx ends.
func produce(ctx context.Context, tasks *emulator.Server, url string) error {
	if _, err := cloudtaskspb.NewCloudTasksClient(tasks.Conn()).CreateQueue(ctx, &cloudtaskspb.CreateQueueRequest{
		Parent: localParent, Queue: &cloudtaskspb.Queue{Name: localParent + "/queues/images"},
	}); err != nil {
		return err
	}
	client, err := handoff.NewClient(ctx, handoff.ClientConfig{
		Project:  "local",
		Location: "europe-west1",
		Target:   handoff.HTTPTarget{URL: url + "/tasks", ServiceAccount: localCaller},
		Options:  tasks.ClientOptions(),
	})
	if err != nil {
		return err
	}
	defer client.Close()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for n := 1; ; n++ {
		_, err := client.Enqueue(ctx, Resize{Image: fmt.Sprintf("photo-%d.jpg", n), Width: 640})
		if err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}
