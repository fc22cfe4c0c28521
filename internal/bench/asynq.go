package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// asynqConfigs are the compared configurations of asynq, by variant.
var asynqConfigs = map[string]asynq.Config{
	// From "Quickstart" in asynq's README.
	"README": {Concurrency: 10, Queues: map[string]int{"critical": 6, "default": 3, "low": 1}},
	// What the comments of asynq.Config recommend for speed: more tasks at once,
	// and polling empty queues more often than once a second, which only affects
	// latency. A single queue saves two lookups per task.
	"tuned": {Concurrency: 100, TaskCheckInterval: 10 * time.Millisecond},
}

// asynqWorker is the process that handles the tasks of asynq's queue.
type asynqWorker struct {
	*counter

	redis  asynq.RedisClientOpt
	config asynq.Config
	server *asynq.Server // nil unless started
}

func newAsynqWorker(_ context.Context, s setup) (role, reply, error) {
	config, ok := asynqConfigs[s.Variant]
	if !ok {
		return nil, reply{}, fmt.Errorf("asynq: no variant %q", s.Variant)
	}
	config.LogLevel = asynq.ErrorLevel // below this level it only logs its start and its end
	return &asynqWorker{counter: newCounter(), redis: asynq.RedisClientOpt{Addr: s.Redis}, config: config}, reply{}, nil
}

func (w *asynqWorker) do(ctx context.Context, c command) (reply, error) {
	switch c.Do {
	case "start":
		w.server = asynq.NewServer(w.redis, w.config)
		return reply{}, w.server.Start(asynq.HandlerFunc(w.process))
	case "stop":
		return reply{}, w.close()
	}
	return w.counter.do(ctx, c)
}

// process is a handler as in asynq's README: it decodes the payload.
func (w *asynqWorker) process(_ context.Context, t *asynq.Task) error {
	var in invoice
	if err := json.Unmarshal(t.Payload(), &in); err != nil {
		return fmt.Errorf("%w: %w", err, asynq.SkipRetry)
	}
	w.handle(&in)
	return nil
}

// close waits until the running tasks have ended and asynq has recorded them.
func (w *asynqWorker) close() error {
	if w.server != nil {
		w.server.Shutdown()
		w.server = nil
	}
	return nil
}

// checkAsynq checks that asynq itself counts the tasks as done.
func checkAsynq(ctx context.Context, rdb *redis.Client, tasks int) error {
	// A client registers a queue only once, and the flush has deleted that.
	if err := rdb.SAdd(ctx, "asynq:queues", "default").Err(); err != nil {
		return err
	}
	inspector := asynq.NewInspectorFromRedisClient(rdb)
	info, err := inspector.GetQueueInfo("default")
	if err != nil {
		return err
	}
	if info.Processed != tasks || info.Failed != 0 || info.Size != 0 {
		return fmt.Errorf("asynq: %d of %d tasks processed, %d failed, %d left", info.Processed, tasks, info.Failed, info.Size)
	}
	return nil
}
