package rows

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	betatasks "cloud.google.com/go/cloudtasks/apiv2beta3"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Target is the server to run the rows against.
type Target struct {
	// GRPC and HTTP are addresses of an emulator, such as "127.0.0.1:8123"; one of
	// them may be empty. With neither, it is the service.
	GRPC, HTTP string
	// Project is that of the service. An emulator has one for each row.
	Project string
	// Location is the location of the queues.
	Location string
	// Receivers is the host by which the server reaches this machine, such as
	// "127.0.0.1".
	Receivers string
	// AppEngine is the address to receive App Engine tasks on. If it is empty, rows
	// that need it are not run.
	AppEngine string
	// Timeout limits a row. It is less than 30 s.
	Timeout time.Duration
	// Parallel is how many rows run at once.
	Parallel int
}

// Run runs all rows over each transport that the target has, and returns their
// results in the order of [All].
func Run(ctx context.Context, t Target) ([]Result, error) { return run(ctx, t, All()) }

func run(ctx context.Context, t Target, all []Row) ([]Result, error) {
	r := &runner{Target: t, network: &loopback{name: t.Receivers}}
	defer r.close()
	if err := r.connect(ctx); err != nil {
		return nil, err
	}
	results := make([]Result, len(all))
	slots := make(chan struct{}, t.Parallel)
	var running sync.WaitGroup
	for i, row := range all {
		slots <- struct{}{}
		running.Go(func() {
			results[i] = r.result(ctx, row)
			<-slots
		})
	}
	running.Wait()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("score: interrupted: %w", err)
	}
	return results, nil
}

type runner struct {
	Target

	network    *loopback
	transports []transport
	closing    []func()
}

// transport is one way to the server.
type transport struct {
	clients

	name, address string // the address is empty for the service
}

func (r *runner) close() {
	for _, f := range r.closing {
		f()
	}
}

func (r *runner) cleanup(f func()) { r.closing = append(r.closing, f) }

// connect makes the clients of each transport, and the App Engine app.
func (r *runner) connect(ctx context.Context) error {
	if r.AppEngine != "" {
		listener, err := net.Listen("tcp", r.AppEngine)
		if err != nil {
			return fmt.Errorf("score: --app-engine: %w", err)
		}
		r.network.app = &appServer{workers: map[*fixture]*worker{}}
		serve(r.cleanup, listener, r.network.app)
	}
	service := r.GRPC == "" && r.HTTP == ""
	if r.GRPC != "" || service {
		if err := r.overGRPC(ctx, service); err != nil {
			return err
		}
	}
	if r.HTTP != "" || service {
		return r.overREST(ctx, service)
	}
	return nil
}

func (r *runner) overGRPC(ctx context.Context, service bool) error {
	t := transport{name: "gRPC", address: r.GRPC}
	var options []option.ClientOption
	if !service {
		conn, err := grpc.NewClient("passthrough:///"+r.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return fmt.Errorf("score: --grpc: %w", err)
		}
		r.cleanup(func() { _ = conn.Close() })
		t.conn, options = conn, []option.ClientOption{option.WithGRPCConn(conn)}
	}
	var err error
	if t.v2, err = cloudtasks.NewClient(ctx, options...); err != nil {
		return fmt.Errorf("score: %w", err)
	}
	if t.beta, err = betatasks.NewClient(ctx, options...); err != nil {
		return fmt.Errorf("score: %w", err)
	}
	if service {
		t.conn = t.v2.Connection() //nolint:staticcheck // deprecated because of pools; rows need one connection
	}
	r.transports = append(r.transports, t)
	return nil
}

func (r *runner) overREST(ctx context.Context, service bool) error {
	t := transport{name: "REST", address: r.HTTP}
	t.rest, t.base = true, "http://"+r.HTTP
	t.http = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: r.Parallel}}
	r.cleanup(t.http.CloseIdleConnections)
	var options []option.ClientOption
	if !service {
		options = []option.ClientOption{option.WithEndpoint(t.base), option.WithHTTPClient(t.http)}
	}
	var err error
	if t.v2, err = cloudtasks.NewRESTClient(ctx, options...); err != nil {
		return fmt.Errorf("score: %w", err)
	}
	if t.beta, err = betatasks.NewRESTClient(ctx, options...); err != nil {
		return fmt.Errorf("score: %w", err)
	}
	r.transports = append(r.transports, t)
	return nil
}

// result runs a row over each transport. It fails if it fails over one of them.
func (r *runner) result(ctx context.Context, row Row) Result {
	result := Result{Row: row, Outcome: NotRun}
	for _, t := range r.transports {
		a := r.attempt(ctx, t, row)
		switch {
		case a.failure != "":
			result.Outcome = Failed
			result.Findings = append(result.Findings, t.name+": "+a.failure)
		case a.skipped == "" && result.Outcome == NotRun:
			result.Outcome = Passed
		case a.skipped != "":
			result.skipped = append(result.skipped, a.skipped)
		}
	}
	if result.Outcome == NotRun {
		result.Findings = result.skipped
	}
	return result
}

// attempt runs a row over one transport. A row should end with its context; one that
// does not is abandoned.
func (r *runner) attempt(ctx context.Context, t transport, row Row) *record {
	if t.address != "" {
		conn, err := (&net.Dialer{Timeout: r.Timeout}).DialContext(ctx, "tcp", t.address) // a server that is gone fails the rest at once
		if err != nil {
			return &record{failure: "the server is not there: " + err.Error()}
		}
		_ = conn.Close()
	}
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	b := &fixture{ctx: ctx, clients: t.clients, maxWait: r.Timeout / 2, real: t.address == "", network: r.network, project: r.Project}
	if !b.real {
		b.project = "score-" + strings.ToLower(rand.Text()[:12])
	}
	b.parent = "projects/" + b.project + "/locations/" + r.Location
	done := make(chan *record, 1)
	go func() { done <- performed(b, row) }()
	select {
	case a := <-done:
		return a
	case <-time.After(r.Timeout + 10*time.Second):
		return &record{failure: fmt.Sprintf("it did not end in %v", r.Timeout)}
	}
}

// performed runs a row to its end, in a goroutine that Fatalf and Skipf may end.
func performed(b *fixture, row Row) *record {
	a := &record{}
	b.tester = a
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer a.cleanup(b)
		defer func() {
			if v := recover(); v != nil {
				a.fail(fmt.Sprintf("panic: %v\n%s", v, debug.Stack()))
			}
		}()
		row.test(b)
	}()
	<-done
	return a
}

// record is the tester of a row.
type record struct {
	mu       sync.Mutex
	failure  string
	skipped  string
	cleanups []func()
}

func (a *record) Helper() {}

func (a *record) Cleanup(f func()) { a.cleanups = append(a.cleanups, f) }

func (a *record) fail(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failure == "" {
		a.failure = text
	}
}

func (a *record) Errorf(format string, args ...any) { a.fail(fmt.Sprintf(format, args...)) }

func (a *record) Fatalf(format string, args ...any) {
	a.fail(fmt.Sprintf(format, args...))
	runtime.Goexit()
}

func (a *record) Skipf(format string, args ...any) {
	a.skipped = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// cleanup deletes the queues of the row, and ends what it started.
func (a *record) cleanup(b *fixture) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), 5*time.Second)
	defer cancel()
	for _, name := range b.names() {
		if err := b.v2.DeleteQueue(ctx, &cloudtaskspb.DeleteQueueRequest{Name: name}); errors.Is(err, context.DeadlineExceeded) {
			break
		}
	}
	for _, f := range slices.Backward(a.cleanups) {
		f()
	}
}
