package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// row is a question, and run its answer.
type row struct {
	name  string
	about string
	run   func(ctx context.Context, l *lab) ([]figure, error)
}

// rows in the order in which they are measured.
var rows = []row{
	{"create", "creating tasks of 300 B with two headers and a token, 16 callers", measureCreate},
	{"batch", "creating them a hundred a call, 8 callers", measureBatch},
	{"dispatch", "30,000 due tasks of 100 B over 10 queues at 500 a second", measureDispatch},
	{"paced", "one queue at 500 a second", measurePaced},
	{"drain", "40 queues at 500 a second, 100 concurrent each", measureDrain},
	{"slow", "one queue, handlers of 50 ms, 100 concurrent: 2,000 a second are possible", measureSlow},
	{"pending", "memory of pending tasks of 100 B, 10 s after the last was created", measurePending},
	{"idle", "CPU while 100,000 tasks wait, over 60 s", measureIdle},
	{"arrival", "from before CreateTask to the target, on an idle queue", measureArrival},
	{"late", "3,000 tasks scheduled over 10 s", measureLate},
	{"rate", "dispatches over 8 s from a queue that has more", measureRate},
	{"finished", "memory after 99,000 tasks, 10 s after the last was done", measureFinished},
	{"flat", "a create and a dispatch by what else is there", measureFlat},
}

// lab is what rows are measured with.
type lab struct {
	program string // path of the program
	scale   int    // what tasks and times are divided by
	rounds  int    // of which the median is taken
	all     bool   // five million tasks too

	target *target
}

// measure measures a row with a target of its own.
func (l *lab) measure(ctx context.Context, r row) ([]figure, error) {
	// Not a deadline, which every call would carry: the service refuses those
	// that are more than 30 s away (docs/cloud-tasks.md#1.2).
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer time.AfterFunc(30*time.Minute, cancel).Stop()
	var err error
	if l.target, err = newTarget(); err != nil {
		return nil, err
	}
	defer l.target.close()
	return r.run(ctx, l)
}

// tasks and time are what a row asks for, scaled.
func (l *lab) tasks(n int) int                    { return n / l.scale }
func (l *lab) time(d time.Duration) time.Duration { return d / time.Duration(l.scale) }

// emulator is a running `handoff emulator` and a client of it.
type emulator struct {
	*process
	client *cloudtasks.Client
}

var ready = regexp.MustCompile(`^handoff emulator: ready, gRPC on (\S+), HTTP on \S+$`)

// emulator starts one with so many queues of the same limits, and returns
// their names. Stop it when done.
func (l *lab) emulator(ctx context.Context, queues int, limits *cloudtaskspb.RateLimits, args ...string) (*emulator, []string, error) {
	p, line, err := begin(ctx, l.program, append([]string{"emulator", "--grpc=127.0.0.1:0", "--http=127.0.0.1:0"}, args...)...)
	if err != nil {
		return nil, nil, err
	}
	match := ready.FindStringSubmatch(line)
	if match == nil {
		p.end()
		return nil, nil, fmt.Errorf("the emulator said %q", line)
	}
	client, err := connect(ctx, match[1])
	if err != nil {
		p.end()
		return nil, nil, err
	}
	e := &emulator{p, client}
	names, err := e.queues(ctx, queues, limits)
	if err != nil {
		e.stop()
		return nil, nil, err
	}
	return e, names, nil
}

func (e *emulator) stop() {
	_ = e.client.Close()
	e.end()
}

// connect makes Google's client of a server, as anybody would who measures:
// without telemetry.
func connect(ctx context.Context, addr string) (*cloudtasks.Client, error) {
	return cloudtasks.NewClient(ctx, option.WithEndpoint(addr), option.WithoutAuthentication(), option.WithTelemetryDisabled(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
}

// bare starts this program as a server or client that does nothing else.
func (l *lab) bare(ctx context.Context, kind string) (*process, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	return begin(ctx, self, "-serve", kind)
}

// pause waits; a task that is lost while it does shows up later.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
