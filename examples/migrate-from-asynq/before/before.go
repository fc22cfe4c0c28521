// Package before is the program on asynq.
package before

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
)

// Welcome is a task.
type Welcome struct {
	User string `json:"user"`
}

const typeWelcome = "email:welcome"

func newWelcome(w Welcome) (*asynq.Task, error) {
	payload, err := json.Marshal(w)
	if err != nil {
		return nil, err
	}
	return asynq.NewTask(typeWelcome, payload, asynq.Queue("emails"), asynq.MaxRetry(4), asynq.Timeout(time.Minute)), nil
}

// Run is the program.
func Run(ctx context.Context, out io.Writer) error {
	say := log.New(out, "  ", 0)
	mini, err := miniredis.Run()
	if err != nil {
		return err
	}
	defer mini.Close()
	redis := asynq.RedisClientOpt{Addr: mini.Addr()}

	// The worker.
	server := asynq.NewServer(redis, asynq.Config{
		Queues:                   map[string]int{"emails": 1},
		RetryDelayFunc:           func(int, error, *asynq.Task) time.Duration { return time.Second },
		DelayedTaskCheckInterval: time.Second,
		LogLevel:                 asynq.FatalLevel,
	})
	if err := server.Start(newWorker(say)); err != nil {
		return err
	}
	defer server.Shutdown()

	// The producer.
	client := asynq.NewClient(redis)
	defer client.Close()
	enqueue := func(user string, opts ...asynq.Option) error {
		task, err := newWelcome(Welcome{User: user})
		if err != nil {
			return err
		}
		_, err = client.EnqueueContext(ctx, task, opts...)
		if errors.Is(err, asynq.ErrDuplicateTask) {
			say.Printf("%s is enqueued already", user)
			return nil
		}
		return err
	}
	err = errors.Join(
		enqueue("ada"),
		enqueue("grace", asynq.ProcessIn(2*time.Second)),
		enqueue("edsger", asynq.ProcessIn(time.Second), asynq.Unique(24*time.Hour)),
		enqueue("edsger", asynq.ProcessIn(time.Second), asynq.Unique(24*time.Hour)),
		enqueue("flaky"),
		enqueue("nobody"),
	)
	if err != nil {
		return err
	}

	// Tasks that will not run again are in the archive.
	inspector := asynq.NewInspector(redis)
	defer inspector.Close()
	if err := settle(ctx, inspector); err != nil {
		return err
	}
	archived, err := inspector.ListArchivedTasks("emails")
	for _, t := range archived {
		say.Printf("%s failed for good", t.Payload)
	}
	return err
}

// newWorker makes the worker: handlers by the name of their type.
func newWorker(say *log.Logger) *asynq.ServeMux {
	mux := asynq.NewServeMux()
	mux.HandleFunc(typeWelcome, func(ctx context.Context, t *asynq.Task) error {
		var w Welcome
		if err := json.Unmarshal(t.Payload(), &w); err != nil {
			return fmt.Errorf("%w: %w", err, asynq.SkipRetry)
		}
		retried, _ := asynq.GetRetryCount(ctx)
		if err := send(w.User, retried+1); errors.Is(err, errNoUser) {
			return fmt.Errorf("%w: %w", err, asynq.SkipRetry)
		} else if err != nil {
			return err
		}
		say.Printf("%s is welcome, at attempt %d", w.User, retried+1)
		return nil
	})
	return mux
}

// settle waits until nothing is left but the archive.
func settle(ctx context.Context, inspector *asynq.Inspector) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		info, err := inspector.GetQueueInfo("emails")
		if err != nil || info.Size == info.Archived {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var errNoUser = errors.New("no such user")

// send stands in for a mail server.
func send(user string, attempt int) error {
	switch {
	case user == "nobody":
		return errNoUser
	case user == "flaky" && attempt == 1:
		return errors.New("the mail server is away")
	}
	return nil
}
