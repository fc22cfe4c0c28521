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
	"sync/atomic"
	"time"
)

// RouterConfig is the configuration of a [Router]. Verifier and Store are
// required. The zero value of any other field stands for its default.
type RouterConfig struct {
	_ [0]func()

	// Verifier decides who may deliver. Use [NewOIDC] for HTTP targets.
	Verifier Verifier

	// DangerouslyAllowUnauthenticated replaces the Verifier by one that accepts
	// every request. Anyone who can reach the endpoint can then run any task.
	DangerouslyAllowUnauthenticated bool

	// Store keeps the records of the fence. Use redisstore.New; sqlstore.DB.Store
	// to have them in the database of the handlers' effects; or memstore.New if
	// there is only one process.
	Store Store

	// DangerouslyRunUnfenced replaces the Store by one that keeps no records.
	// Tasks may then run twice, even at the same time.
	DangerouslyRunUnfenced bool

	// DeadLetters keeps the tasks that are buried. Without it they are only
	// logged and passed to OnDead. A task whose payload cannot be decoded or is
	// invalid is then retried instead, so that a wrong deploy does not delete
	// the tasks of a queue.
	DeadLetters DeadLetterStore

	// OnDead is called for each task that is buried, after DeadLetters has
	// stored its letter, in the delivery's goroutine. It must be safe for
	// concurrent use. A crash can repeat or lose a call, but not the letter.
	OnDead func(ctx context.Context, letter DeadLetter)

	// Project is the ID of the project whose queues deliver to this router. It
	// is part of the fence keys of tasks that handoff did not create, so that
	// two projects can share a Store, and an IdempotencyKey means the same work
	// whichever program creates its task. Defaults to the project of Client.
	Project string

	// Client creates the copies of tasks whose handlers return [Snooze],
	// [RetryIn], [BusyFor] or [Continue]. Without it such a task is retried
	// with its backoff instead.
	Client *Client

	// Observers watch every delivery and are called in this order. Package
	// middleware has observers for logs, traces and metrics. Defaults to none.
	Observers []Observer

	// Logger logs why deliveries were refused (once a second for each reason),
	// attempts failed and tasks were buried, unless an Observer does
	// ([Observer].Logs). It also logs what no Delivery tells. Each line of a
	// delivery has its context and, if it is traced, its trace_id. Tokens and
	// payloads are not logged; the errors of handlers are. Defaults to
	// slog.Default.
	Logger *slog.Logger

	// MaxBody is the maximum size of the decompressed body, in bytes. A larger
	// one is [TooLarge]. Defaults to 1 MiB, the service's limit for a task
	// (https://cloud.google.com/tasks/docs/quotas). Producers that compress
	// may need more.
	MaxBody int

	// MaxRun is the maximum time of one attempt. It is used if it is shorter
	// than what the task's dispatch deadline allows. Set it below the request
	// timeout of the platform, such as Cloud Run's default of 5 min
	// (https://cloud.google.com/run/docs/configuring/request-timeout). Defaults
	// to no limit.
	MaxRun time.Duration

	// Lease is the TTL of claims, which are renewed while the handler runs. If a
	// worker dies, its task can run again after this time. Defaults to 30 s; at
	// least 1 s.
	Lease time.Duration

	// ForeignMaxAttempts is the attempt limit of tasks that carry none, after
	// which they are buried: those that handoff did not create, and those of
	// [Client.EnqueueRequest] without a Retry. Defaults to the limit that the
	// type's Policy declares. If it declares none, a task of EnqueueRequest has
	// 5 attempts, and Cloud Tasks deletes any other by the queue's limit,
	// without a dead letter. [Unlimited] is allowed.
	ForeignMaxAttempts int

	// Statuses replaces the statuses of outcomes. The status of a final outcome
	// must be a 2xx. Any other must be a 4xx or 5xx, so that the task is
	// retried.
	Statuses map[Outcome]int
}

// Router receives Cloud Tasks deliveries and runs the handlers registered with
// [Handle]. Every delivery takes these steps, in this order:
//
//	verify, parse, decode, claim, admit,
//		Use middleware ( handler ),
//	settle, response
//
// A Router is an [http.Handler], so it can be mounted in any framework, below the
// framework's own middleware. Such middleware must not write a response before the
// router has returned: Cloud Tasks would act on that status ([ReasonResponseSent]).
//
// Register handlers and middleware before the router serves. From then on a Router
// is safe for concurrent use. Call [Router.Shutdown] when done.
type Router struct {
	config     RouterConfig
	log        *slog.Logger
	refused    *refusals
	handlers   map[string]*handler
	run        Handler // the middleware of Use around runHandler; nil without middleware
	use        []Middleware
	keeper     *leaseKeeper
	statuses   [len(outcomes)]int
	keepsMemos atomic.Bool // a memo was kept by Held.Resume
	copyless   sync.Once   // logs that there is no Client for copies

	serving  atomic.Bool // a request has arrived
	mu       sync.Mutex
	draining bool
	active   int           // deliveries in the pipeline
	drained  chan struct{} // closed when draining and none is active

	cleanups     sync.WaitGroup // goroutines of disown
	cleanupCtx   context.Context
	stopCleanups context.CancelFunc
	stopKeys     func() // ends the fetch of the Verifier's keys, once
}

const (
	defaultMaxBody = 1 << 20
	defaultLease   = 30 * time.Second
	minLease       = time.Second
)

// NewRouter returns a Router. The error reports every problem of config.
func NewRouter(config RouterConfig) (*Router, error) {
	r := &Router{
		config:   config,
		log:      config.Logger,
		handlers: make(map[string]*handler),
		drained:  make(chan struct{}),
	}
	r.cleanupCtx, r.stopCleanups = context.WithCancel(context.Background()) //nolint:gosec // Shutdown calls stopCleanups
	if err := errors.Join(r.checkGuards(), r.checkLimits(), r.checkObservers(), r.setStatuses()); err != nil {
		return nil, err
	}
	useKeys(r.config.Verifier)
	r.stopKeys = sync.OnceFunc(func() { stopKeys(r.config.Verifier) })
	r.log = cmp.Or(r.log, slog.Default())
	r.config.Observers = slices.Clone(config.Observers)
	if config.Project == "" && config.Client != nil {
		r.config.Project = config.Client.config.Project
	}
	r.config.MaxBody = cmp.Or(config.MaxBody, defaultMaxBody)
	r.config.Lease = cmp.Or(config.Lease, defaultLease)
	r.refused = &refusals{last: make(map[Reason]refusal)}
	r.keeper = newLeaseKeeper(r.config.Store, r.config.Lease, r.log)
	if r.config.Project == "" && !config.DangerouslyRunUnfenced {
		r.log.Info("handoff: RouterConfig.Project is not set: the keys of tasks that handoff did not create differ from those of its own, and not from those of other projects")
	}
	if config.DeadLetters == nil {
		r.log.Warn("handoff: RouterConfig.DeadLetters is not set: tasks that are buried are logged and deleted")
	}
	return r, nil
}

func (r *Router) checkGuards() error {
	c := &r.config
	var errs []error
	switch {
	case c.Verifier == nil && !c.DangerouslyAllowUnauthenticated:
		errs = append(errs, errors.New("handoff: RouterConfig.Verifier is nil; use NewOIDC, or set DangerouslyAllowUnauthenticated to accept every request"))
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

// checkStore calls the Check method of a store, if it has one.
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
		errs = append(errs, fmt.Errorf("handoff: RouterConfig.ForeignMaxAttempts is %d; it must be positive, Unlimited, or zero for what the types declare", c.ForeignMaxAttempts))
	}
	return errors.Join(errs...)
}

func (r *Router) checkObservers() error {
	var errs []error
	for i := range r.config.Observers {
		errs = append(errs, r.config.Observers[i].check(i))
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
			errs = append(errs, fmt.Errorf("handoff: RouterConfig.Statuses has the key %s, which is not an Outcome", o))
			continue
		case o.Final() && !success:
			errs = append(errs, fmt.Errorf("handoff: RouterConfig.Statuses[%s] is %d; it must be a 2xx, or Cloud Tasks would retry work that is over", o, status))
		case !o.Final() && (status < 400 || status > 599):
			errs = append(errs, fmt.Errorf("handoff: RouterConfig.Statuses[%s] is %d; it must be a 4xx or 5xx, or Cloud Tasks might delete work that must run again", o, status))
		}
		r.statuses[o] = status
	}
	return errors.Join(errs...)
}

// Use adds middleware around the handlers. It runs after the claim and before the
// deadline of the attempt. [InfoFromContext] and [PayloadFromContext] work with
// its context. Its error decides the outcome, as a handler's does; [ErrBusy]
// retries the task later. The first middleware added is the outermost. Call Use
// before the router serves; later it panics. It panics if a middleware is nil or
// returns nil.
func (r *Router) Use(middleware ...Middleware) {
	if r.serving.Load() {
		panic("handoff: Router.Use after the router began to serve; call it before")
	}
	r.use = append(r.use, middleware...)
	r.run = runHandler
	for i, wrap := range slices.Backward(r.use) {
		if wrap == nil {
			panic(fmt.Sprintf("handoff: Router.Use: middleware %d is nil", i))
		}
		if r.run = wrap(r.run); r.run == nil {
			panic(fmt.Sprintf("handoff: Router.Use: middleware %d returned a nil Handler", i))
		}
	}
}

// ServeHTTP serves one delivery. The last segment of the path is the kind; what
// comes before it does not matter. The response has no body, so that it tells an
// unknown caller nothing; details are logged.
func (r *Router) ServeHTTP(w http.ResponseWriter, req *http.Request) { r.serve(w, req, "") }

// serve serves one delivery. If kind is empty, the last segment of the path is the
// kind.
func (r *Router) serve(w http.ResponseWriter, req *http.Request, kind string) {
	r.serving.Store(true)
	entered := r.enter()
	if entered {
		defer r.leave() // after the End of the observers
	}
	d := &delivery{router: r, req: req, writer: w, mounted: kind}
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

// Shutdown stops the router and waits for the running deliveries. Deliveries that
// arrive from now on are [Interrupted]. If ctx ends first, Shutdown cancels the
// handlers with [ErrInterrupted] and waits up to 1.5 s more for them to return, so
// that their attempts are not counted. If handlers still run then, Shutdown
// returns an error with their number. Their leases are renewed until they return
// or the process ends.
//
// Cloud Run kills an instance 10 s after SIGTERM
// (https://cloud.google.com/run/docs/container-contract#instance-shutdown), so
// give ctx about 8 s.
func (r *Router) Shutdown(ctx context.Context) error {
	r.drain()
	defer r.keeper.close()
	defer r.endCleanups(ctx)
	defer r.stopKeys()
	select {
	case <-r.drained:
		return nil
	case <-ctx.Done():
	}
	r.keeper.interrupt(ErrInterrupted)
	r.stopKeys()
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

// endCleanups waits for the goroutines of disown, at most shutdownGrace, and then
// cancels them.
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

func (r *Router) isDraining() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.draining
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

// unfenced is the Store of DangerouslyRunUnfenced. It counts no attempts, so the
// router uses the service's retry count.
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
