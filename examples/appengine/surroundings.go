package main

import (
	"context"
	"errors"
	"fmt"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/redis/go-redis/v9"
	"google.golang.org/api/option"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/memstore"
	"github.com/brillconsulting/handoff/redisstore"
)

// surroundings is what differs between App Engine and this machine.
type surroundings struct {
	project, location string
	options           []option.ClientOption
	emulated          bool
	store             handoff.Store
	letters           handoff.DeadLetterStore
	close             func()
}

func surroundingsOf(ctx context.Context, getenv func(string) string, port int) (surroundings, error) {
	if getenv("GAE_ENV") != "" {
		return onAppEngine(getenv)
	}
	return onThisMachine(ctx, port)
}

// onAppEngine keeps the fence in Redis, because instances come and go.
func onAppEngine(getenv func(string) string) (surroundings, error) {
	var problems []error
	required := func(name string) string {
		value := getenv(name)
		if value == "" {
			problems = append(problems, fmt.Errorf("appengine: %s is not set; set it in app.yaml", name))
		}
		return value
	}
	location, addr := required("QUEUE_LOCATION"), required("REDIS_ADDR")
	if len(problems) > 0 {
		return surroundings{}, errors.Join(problems...)
	}
	rdb := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	return surroundings{
		project:  getenv("GOOGLE_CLOUD_PROJECT"), // App Engine sets it
		location: location,
		store:    redisstore.New(rdb, nil),
		letters:  redisstore.NewDeadLetters(rdb, nil),
		close:    func() { _ = rdb.Close() },
	}, nil
}

// onThisMachine runs everything in this process, Cloud Tasks included.
func onThisMachine(ctx context.Context, port int) (surroundings, error) {
	tasks, err := emulator.New(emulator.Config{
		// The addresses of the app's services. A key is SERVICE, SERVICE/VERSION or
		// SERVICE/VERSION/INSTANCE; "default" is for all others.
		AppEngine: map[string]string{"default": fmt.Sprintf("http://127.0.0.1:%d", port)},
	})
	if err != nil {
		return surroundings{}, err
	}
	const parent = "projects/guestbook/locations/europe-west1"
	if _, err := cloudtaskspb.NewCloudTasksClient(tasks.Conn()).CreateQueue(ctx, &cloudtaskspb.CreateQueueRequest{
		Parent: parent, Queue: &cloudtaskspb.Queue{Name: parent + "/queues/guests"},
	}); err != nil {
		tasks.Close()
		return surroundings{}, err
	}
	return surroundings{
		project:  "guestbook",
		location: "europe-west1",
		options:  tasks.ClientOptions(),
		emulated: true,
		store:    memstore.New(),
		letters:  memstore.NewDeadLetters(),
		close:    tasks.Close,
	}, nil
}
