package handoff

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"
)

// RouterConfig says how a [Router] receives tasks. Verifier and Store are
// required; the zero value of every other field is its default.
type RouterConfig struct {
	_ [0]func()

	// Verifier decides who may deliver. Use [NewOIDC] for HTTP targets.
	Verifier Verifier

	// DangerouslyAllowUnauthenticated replaces the Verifier by one that lets
	// everybody in: whoever can reach the endpoint can run any task.
	DangerouslyAllowUnauthenticated bool

	// Store is the memory of the fence. Use redisstore.New, or
	// memstore.New where there is only one process.
	Store Store

	// DangerouslyRunUnfenced replaces the Store by one that remembers
	// nothing: tasks may run twice, also at the same time.
	DangerouslyRunUnfenced bool

	// DeadLetters keeps what will never succeed. Without it such tasks are
	// logged, handed to OnDead and gone; a payload that does not decode is
	// retried instead, since one wrong deploy must not empty a queue.
	DeadLetters DeadLetterStore

	// OnDead is called in the delivery's goroutine for each task that died,
	// after the dead-letter store has it. A crash in between can repeat a
	// call or lose it; the letter is the record.
	OnDead func(ctx context.Context, letter DeadLetter)

	// Project is the ID of the project whose queues deliver here. It is part
	// of the identity of tasks that handoff did not create, so that two
	// projects may share a Store. Defaults to that of Client.
	Project string

	// Client creates the copies of snoozed tasks. Without it a handler that
	// returns [Snooze] has failed.
	Client *Client

	// Observers are told of every delivery, in this order. Package middleware
	// has those for logs, traces and metrics. Defaults to none.
	Observers []Observer

	// Logger takes what a delivery's status cannot say: why it was refused
	// (once a second for each reason), failed or died. Defaults to
	// slog.Default. Tokens and payloads are never logged.
	Logger *slog.Logger

	// MaxBody limits the inflated body, in bytes. Defaults to 1 MiB, the
	// service's own limit for a task (https://cloud.google.com/tasks/docs/quotas); a
	// producer that compresses may need more.
	MaxBody int

	// MaxRun bounds the time of one attempt beside the task's own dispatch
	// deadline. Set it under the request timeout of the platform (Cloud Run's
	// default is 5 min). Defaults to no further bound.
	MaxRun time.Duration

	// Lease is how long a claim outlives its worker's last sign of life: a
	// killed worker's task runs again after it. Defaults to 30 s; at least
	// 1 s. It is renewed while the handler runs.
	Lease time.Duration

	// ForeignMaxAttempts is the attempt limit of tasks that this package did
	// not enqueue. Defaults to none known: Cloud Tasks deletes them by the
	// queue's own limit, unburied.
	ForeignMaxAttempts int

	// Statuses replaces the statuses of outcomes. A final outcome must stay a
	// 2xx; every other must be a 4xx or 5xx, so that it is retried.
	Statuses map[Outcome]int
}

// Router receives Cloud Tasks deliveries and runs the handlers registered with
// [Handle]. Every delivery takes the same way, in this order:
//
//	verify, parse, decode, claim, admit,
//		Use middleware ( handler ),
//	settle, response
//
// A Router is an [http.Handler], so it can be mounted in any framework, which
// may put its own middleware around it. Such middleware must not write a
// response itself while the router runs, since that is what Cloud Tasks reads.
//
// Register handlers and middleware first, then serve; from then on a Router is
// safe for concurrent use. Call [Router.Shutdown] when done.
type Router struct {
	config   RouterConfig
	log      *slog.Logger
	refused  *refusalLog
	handlers map[string]*handler
	run      Handler // the Use middleware around the handler; nil if there is none
	use      []Middleware
	keeper   *leaseKeeper
	statuses [len(outcomes)]int

	mu       sync.Mutex
	draining bool
	active   int                    // deliveries in the pipeline
	reading  map[*delivery]struct{} // those that wait for their bodies
	drained  chan struct{}          // closed when draining and none is active

	cleanups     sync.WaitGroup // what goes on beside the deliveries
	cleanupCtx   context.Context
	stopCleanups context.CancelFunc
}

const (
	defaultMaxBody = 1 << 20
	defaultLease   = 30 * time.Second
	minLease       = time.Second
)

// NewRouter checks the whole configuration and returns every problem at once.
func NewRouter(config RouterConfig) (*Router, error) {
	r := &Router{
		config:   config,
		log:      config.Logger,
		handlers: make(map[string]*handler),
		drained:  make(chan struct{}),
		reading:  make(map[*delivery]struct{}),
	}
	r.cleanupCtx, r.stopCleanups = context.WithCancel(context.Background()) //nolint:gosec // Shutdown calls stopCleanups
	if err := errors.Join(r.checkGuards(), r.checkLimits(), r.setStatuses()); err != nil {
		return nil, err
	}
	r.log = cmp.Or(r.log, slog.Default())
	r.config.Observers = slices.Clone(config.Observers)
	if config.Project == "" && config.Client != nil {
		r.config.Project = config.Client.config.Project
	}
	r.config.MaxBody = cmp.Or(config.MaxBody, defaultMaxBody)
	r.config.Lease = cmp.Or(config.Lease, defaultLease)
	r.refused = &refusalLog{logger: r.log, last: make(map[Reason]refusal)}
	r.keeper = newLeaseKeeper(r.config.Store, r.config.Lease, r.log)
	if r.config.Project == "" && !config.DangerouslyRunUnfenced {
		r.log.Info("handoff: RouterConfig.Project is not set: tasks that handoff did not create must not come from two projects that share a Store")
	}
	if config.DeadLetters == nil {
		r.log.Warn("handoff: RouterConfig.DeadLetters is not set: tasks that die are logged and gone")
	}
	return r, nil
}

func (r *Router) checkGuards() error {
	c := &r.config
	var errs []error
	switch {
	case c.Verifier == nil && !c.DangerouslyAllowUnauthenticated:
		errs = append(errs, errors.New("handoff: RouterConfig.Verifier is nil; use NewOIDC, or set DangerouslyAllowUnauthenticated to let everybody in"))
	case c.Verifier != nil && c.DangerouslyAllowUnauthenticated:
		errs = append(errs, errors.New("handoff: RouterConfig.Verifier and DangerouslyAllowUnauthenticated are both set; remove one"))
	case c.Verifier == nil:
		c.Verifier = everybody{}
	}
	switch {
	case c.Store == nil && !c.DangerouslyRunUnfenced:
		errs = append(errs, errors.New("handoff: RouterConfig.Store is nil; use redisstore.New, or memstore.New within one process, or set DangerouslyRunUnfenced to let tasks run twice"))
	case c.Store != nil && c.DangerouslyRunUnfenced:
		errs = append(errs, errors.New("handoff: RouterConfig.Store and DangerouslyRunUnfenced are both set; remove one"))
	case c.Store == nil:
		c.Store = unfenced{}
	}
	errs = append(errs, checkStore("Store", c.Store), checkStore("DeadLetters", c.DeadLetters))
	return errors.Join(errs...)
}

// checkStore asks a store whether it can work at all, if it can tell.
func checkStore(field string, store any) error {
	if checker, ok := store.(interface{ Check() error }); ok {
		if err := checker.Check(); err != nil {
			return fmt.Errorf("handoff: RouterConfig.%s cannot work: %w", field, err)
		}
	}
	return nil
}

func (r *Router) checkLimits() error {
	c := &r.config
	var errs []error
	if c.MaxBody < 0 {
		errs = append(errs, fmt.Errorf("handoff: RouterConfig.MaxBody is %d; it must be positive, or zero for %d", c.MaxBody, defaultMaxBody))
	}
	if c.MaxRun < 0 {
		errs = append(errs, fmt.Errorf("handoff: RouterConfig.MaxRun is %s; it must be positive, or zero for no bound", c.MaxRun))
	}
	if c.Lease != 0 && c.Lease < minLease {
		errs = append(errs, fmt.Errorf("handoff: RouterConfig.Lease is %s; it must be at least %s, or zero for %s", c.Lease, minLease, defaultLease))
	}
	if c.ForeignMaxAttempts < Unlimited {
		errs = append(errs, fmt.Errorf("handoff: RouterConfig.ForeignMaxAttempts is %d; it must be positive, Unlimited, or zero for unknown", c.ForeignMaxAttempts))
	}
	return errors.Join(errs...)
}

func (r *Router) setStatuses() error {
	for o := Done; o.valid(); o++ {
		r.statuses[o] = o.Status()
	}
	var errs []error
	for o, status := range r.config.Statuses {
		switch success := status >= 200 && status <= 299; {
		case !o.valid():
			errs = append(errs, fmt.Errorf("handoff: RouterConfig.Statuses names %s, which is no outcome", o))
			continue
		case o.Final() && !success:
			errs = append(errs, fmt.Errorf("handoff: RouterConfig.Statuses[%s] is %d; Cloud Tasks would retry what is over: it must be a 2xx", o, status))
		case !o.Final() && (status < 400 || status > 599):
			errs = append(errs, fmt.Errorf("handoff: RouterConfig.Statuses[%s] is %d; Cloud Tasks might delete what must run again: it must be a 4xx or 5xx", o, status))
		}
		r.statuses[o] = status
	}
	return errors.Join(errs...)
}

// Use adds middleware that runs after the claim, inside the deadline, with
// [InfoFromContext] and [PayloadFromContext] in its context. The error it
// returns becomes an outcome as a handler's would, and [ErrBusy] refuses the
// task for now. The first added is the outermost. Call it before the router
// serves. It panics if a middleware is nil.
func (r *Router) Use(middleware ...Middleware) {
	r.use = append(r.use, middleware...)
	r.run = runHandler
	for i, wrap := range slices.Backward(r.use) {
		if wrap == nil {
			panic(fmt.Sprintf("handoff: Router.Use: middleware %d is nil", i))
		}
		r.run = wrap(r.run)
	}
}

// ServeHTTP serves one delivery. The kind is the last segment of the path,
// whatever stands before it. The response has no body: details go to the log,
// and strangers are told nothing.
func (r *Router) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	entered := r.enter()
	if entered {
		defer r.leave() // when the observers were told as well
	}
	d := &delivery{router: r, req: req, writer: w}
	d.result.Received, d.result.ctx = time.Now(), req.Context()
	defer d.observeEnd()
	defer d.respond(w)
	d.observeBegin(r.config.Observers)
	if entered {
		d.process()
	} else {
		d.end(Interrupted, nil)
	}
	if d.aborts {
		panic(http.ErrAbortHandler)
	}
	d.returns = true
}

// Shutdown stops taking deliveries, which are answered [Interrupted] from now
// on, and waits for the running ones. When ctx ends first, it cancels their
// handlers with [ErrInterrupted] and waits a little longer for them to return,
// so that their claims are released uncounted. Handlers that still run then
// keep their claims, which are renewed until they return or the process ends;
// the error counts them.
//
// Cloud Run kills a service 10 s after SIGTERM: give ctx about 8 s.
func (r *Router) Shutdown(ctx context.Context) error {
	r.drain()
	defer r.keeper.close()
	defer r.endCleanups(ctx)
	select {
	case <-r.drained:
		return nil
	case <-ctx.Done():
	}
	r.keeper.interrupt(ErrInterrupted)
	r.stopReading()
	grace := time.NewTimer(shutdownGrace)
	defer grace.Stop()
	select {
	case <-r.drained:
		return nil
	case <-grace.C:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Errorf("handoff: shutdown: %d handlers still run: %w", r.active, context.Cause(ctx))
}

const shutdownGrace = 1500 * time.Millisecond

// endCleanups waits for what goes on beside the deliveries, and ends it when
// the grace is over.
func (r *Router) endCleanups(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	defer context.AfterFunc(ctx, r.stopCleanups)()
	r.cleanups.Wait()
}

func (r *Router) drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.draining {
		r.draining = true
		r.closeIfDrained()
	}
}

func (r *Router) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining {
		return false
	}
	r.active++
	return true
}

func (r *Router) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active--
	r.closeIfDrained()
}

func (r *Router) closeIfDrained() {
	if r.draining && r.active == 0 {
		close(r.drained)
	}
}

// everybody is the Verifier of DangerouslyAllowUnauthenticated.
type everybody struct{}

func (everybody) Verify(*http.Request) (Caller, error) { return Caller{}, nil }

// unfenced is the Store of DangerouslyRunUnfenced. It counts nothing: the
// router goes by the service's own count then.
type unfenced struct{}

func (unfenced) Claim(context.Context, Lease) (Claim, error) {
	return Claim{Status: ClaimAcquired, Token: time.Now().UnixMicro(), First: time.Now()}, nil
}

func (unfenced) Renew(_ context.Context, leases []Lease) ([]bool, error) {
	kept := make([]bool, len(leases))
	for i := range kept {
		kept[i] = true
	}
	return kept, nil
}
func (unfenced) Complete(context.Context, Lease) error      { return nil }
func (unfenced) Release(context.Context, Lease, bool) error { return nil }
func (unfenced) Keep(context.Context, Lease, []byte) error  { return nil }
func (unfenced) End(context.Context, Lease, []byte) error   { return nil }
