package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// asynqConfigs are the ways to set asynq up.
var asynqConfigs = map[string]asynq.Config{
	// Its README, "Quickstart".
	"README": {Concurrency: 10, Queues: map[string]int{"critical": 6, "default": 3, "low": 1}},
	// What the comments of its Config have to say on speed: more tasks at once,
	// and a look at empty queues more often than each second, which matters to
	// latency only. One queue spares two looks a task.
	"tuned": {Concurrency: 100, TaskCheckInterval: 10 * time.Millisecond},
}

// asynqWorker is the process that works off asynq's queue.
type asynqWorker struct {
	*counter

	redis  asynq.RedisClientOpt
	config asynq.Config
	server *asynq.Server // while one runs
}

func newAsynqWorker(_ context.Context, s setup) (role, reply, error) {
	config, ok := asynqConfigs[s.Variant]
	if !ok {
		return nil, reply{}, fmt.Errorf("asynq: no variant %q", s.Variant)
	}
	config.LogLevel = asynq.ErrorLevel // it has news at the start and at the end only
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

// process is a handler as its README has them: it decodes the payload.
func (w *asynqWorker) process(_ context.Context, t *asynq.Task) error {
	var in invoice
	if err := json.Unmarshal(t.Payload(), &in); err != nil {
		return fmt.Errorf("%w: %w", err, asynq.SkipRetry)
	}
	w.handle(&in)
	return nil
}

// close waits for the tasks that are in work, and so for their marks.
func (w *asynqWorker) close() error {
	if w.server != nil {
		w.server.Shutdown()
		w.server = nil
	}
	return nil
}

// checkAsynq makes sure that asynq itself counts the tasks as done.
func checkAsynq(ctx context.Context, rdb *redis.Client, tasks int) error {
	// A client names a queue once, which Redis was made to forget since.
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
