package emulator

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff/emulator/internal/engine"
)

// CallFault is something that goes wrong with API calls.
type CallFault struct {
	_ [0]func()

	// Method is the RPC that it applies to, such as "CreateTask". Defaults to
	// all of them.
	Method string

	// Times is how many calls it applies to. Defaults to all until it is removed.
	Times int

	// Delay is how long the call waits first, at most until its deadline.
	Delay time.Duration

	// Code is the error that the call fails with, instead of being carried
	// out. Defaults to none.
	Code codes.Code

	// LoseResponse carries the call out and then fails it with UNAVAILABLE, so
	// that the caller cannot know that it was carried out.
	LoseResponse bool
}

// DispatchFault is something that goes wrong with dispatches. Where several
// are in force, the oldest that matches applies.
type DispatchFault struct {
	_ [0]func()

	// Queue limits it to a queue, by full name or queue ID. Defaults to all.
	Queue string

	// URL limits it to HTTP tasks whose URL begins with it. Defaults to all
	// tasks.
	URL string

	// Times is how many dispatches it applies to. Defaults to all until it is
	// removed.
	Times int

	// Delay is how long the dispatch waits first, at most until its deadline.
	Delay time.Duration

	// Status is the HTTP status of the response. The target is not called.
	// Defaults to none.
	Status int

	// Unreachable fails the dispatch as if no connection could be made.
	Unreachable bool

	// LoseResponse delivers the task and loses the response, as if the
	// connection had broken: the task is retried although it may have run.
	LoseResponse bool

	// Twice delivers the task twice at the same time, with the same headers.
	// The dispatch has succeeded if either delivery has.
	Twice bool

	// Again delivers the task a second time after it has succeeded.
	Again bool
}

// faults holds what is in force. While there is none, asking costs one
// atomic load.
type faults[F any] struct {
	mu    sync.Mutex
	armed atomic.Pointer[[]*armed[F]]
}

type armed[F any] struct {
	fault F
	left  int // negative: no limit
}

func (fs *faults[F]) add(fault F, times int) (remove func()) {
	a := &armed[F]{fault: fault, left: times}
	if times == 0 {
		a.left = -1
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	all := append(slices.Clone(fs.all()), a)
	fs.armed.Store(&all)
	return func() {
		fs.mu.Lock()
		defer fs.mu.Unlock()
		fs.drop(a)
	}
}

// take returns the first fault that fits and counts it.
func (fs *faults[F]) take(fits func(*F) bool) *F {
	if len(fs.all()) == 0 {
		return nil
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, a := range fs.all() {
		if !fits(&a.fault) {
			continue
		}
		if a.left > 0 {
			if a.left--; a.left == 0 {
				fs.drop(a)
			}
		}
		return &a.fault
	}
	return nil
}

func (fs *faults[F]) all() []*armed[F] {
	if all := fs.armed.Load(); all != nil {
		return *all
	}
	return nil
}

func (fs *faults[F]) reset() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.armed.Store(nil)
}

func (fs *faults[F]) drop(a *armed[F]) {
	all := slices.DeleteFunc(slices.Clone(fs.all()), func(o *armed[F]) bool { return o == a })
	fs.armed.Store(&all)
}

// InjectCall makes API calls go wrong, over gRPC and REST, until remove is
// called or the fault has affected its number of calls.
func (s *Server) InjectCall(f CallFault) (remove func()) { return s.callFaults.add(f, f.Times) }

// InjectDispatch makes dispatches go wrong, until remove is called or the
// fault has affected its number of dispatches.
func (s *Server) InjectDispatch(f DispatchFault) (remove func()) {
	return s.dispatchFaults.add(f, f.Times)
}

// call carries out an API call under the fault that applies to it, if any.
func (s *Server) call(ctx context.Context, method string, handle func() (any, error)) (any, error) {
	name := method[strings.LastIndexByte(method, '/')+1:]
	f := s.callFaults.take(func(f *CallFault) bool { return f.Method == "" || f.Method == name })
	if f == nil {
		return handle()
	}
	if err := sleep(ctx, f.Delay); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	if f.Code != codes.OK {
		return nil, status.Errorf(f.Code, "emulator: injected fault in %s", name)
	}
	resp, err := handle()
	if f.LoseResponse && err == nil {
		return nil, status.Errorf(codes.Unavailable, "emulator: injected fault: the response of %s was lost", name)
	}
	return resp, err
}

// dispatch makes a dispatch under the fault that applies to it, if any.
func (s *Server) dispatch(ctx context.Context, a *engine.Dispatch) engine.Outcome {
	f := s.dispatchFaults.take(func(f *DispatchFault) bool {
		return (f.Queue == "" || f.Queue == a.QueueID || f.Queue == a.Queue.GetName()) &&
			strings.HasPrefix(a.Task.GetHttpRequest().GetUrl(), f.URL)
	})
	if f == nil {
		return s.dispatcher.Dispatch(ctx, a)
	}
	if sleep(ctx, f.Delay) != nil {
		return engine.Outcome{Timeout: true, Failure: "emulator: injected delay"}
	}
	switch {
	case f.Unreachable:
		return engine.Outcome{Failure: "emulator: injected fault: unreachable"}
	case f.Status != 0:
		return engine.Outcome{Status: f.Status}
	}
	out := s.deliver(ctx, a, f)
	if f.LoseResponse && out.Status != 0 {
		return engine.Outcome{Failure: "emulator: injected fault: response lost"}
	}
	return out
}

func (s *Server) deliver(ctx context.Context, a *engine.Dispatch, f *DispatchFault) engine.Outcome {
	if !f.Twice {
		out := s.dispatcher.Dispatch(ctx, a)
		if f.Again && out.OK() {
			s.dispatcher.Dispatch(ctx, a)
		}
		return out
	}
	var second engine.Outcome
	var wg sync.WaitGroup
	wg.Go(func() { second = s.dispatcher.Dispatch(ctx, a) })
	out := s.dispatcher.Dispatch(ctx, a)
	wg.Wait()
	if !out.OK() && second.OK() {
		return second
	}
	return out
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
