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

	"github.com/labstack/echo/v4"

	"github.com/brillconsulting/handoff/internal/lease"
	"github.com/brillconsulting/handoff/internal/refusals"
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

	// Client creates the copies of snoozed tasks. Without it a handler that
	// returns [Snooze] has failed.
	Client *Client

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
//	group middleware ( verify, parse, decode, claim, admit,
//		Use middleware ( handler ),
//	settle, status )
//
// Register handlers and middleware first, then serve; from then on a Router is
// safe for concurrent use. Call [Router.Shutdown] when done.
type Router struct {
	config   RouterConfig
	log      *slog.Logger
	refused  *refusals.Log
	echo     *echo.Echo
	handlers map[string]*handler
	run      echo.HandlerFunc // the Use middleware around the handler; nil if there is none
	use      []echo.MiddlewareFunc
	keeper   *lease.Keeper[Lease]
	statuses [len(outcomes)]int

	mu       sync.Mutex
	draining bool
	active   int           // deliveries in the pipeline
	drained  chan struct{} // closed when draining and none is active
	cleanups sync.WaitGroup
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
		echo:     echo.New(),
		handlers: make(map[string]*handler),
		drained:  make(chan struct{}),
	}
	if err := errors.Join(r.checkGuards(), r.checkLimits(), r.setStatuses()); err != nil {
		return nil, err
	}
	r.log = cmp.Or(r.log, slog.Default())
	r.config.MaxBody = cmp.Or(config.MaxBody, defaultMaxBody)
	r.config.Lease = cmp.Or(config.Lease, defaultLease)
	r.refused = refusals.New(r.log)
	r.keeper = lease.New(lease.Config[Lease]{Renew: r.config.Store.Renew, TTL: r.config.Lease, Lost: ErrLeaseLost, Log: r.log})
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
	return errors.Join(errs...)
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
// [InfoFromContext] and [PayloadFromContext] in the request's context. The
// error it returns becomes an outcome as a handler's would, and [ErrBusy]
// refuses the task for now. The first added is the outermost. Call it before
// the router serves.
func (r *Router) Use(middleware ...echo.MiddlewareFunc) {
	r.use = append(r.use, middleware...)
	r.run = func(c echo.Context) error {
		ctx := c.Request().Context()
		run := ctx.Value(infoKey{}).(*delivery)
		return run.handler.run(ctx, run.payload)
	}
	for _, v := range slices.Backward(r.use) {
		r.run = v(r.run)
	}
}

// Mount serves the router's kinds below g: POST <group>/<kind>. Middleware
// given to the group wraps the whole pipeline, refusals included, and reads
// how it ended from [DeliveryFrom] after next.
func (r *Router) Mount(g *echo.Group) {
	g.Any("/:kind", r.deliver)
}

// ServeHTTP serves a delivery without echo: the kind is the last segment of
// the path, whatever stands before it.
func (r *Router) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	c := r.echo.AcquireContext()
	defer r.echo.ReleaseContext(c)
	c.Reset(req, w)
	_ = r.deliver(c) // nil: the answer is written
}

const deliveryKey = "handoff.delivery"

// Delivery is how one delivery went, for middleware on the echo group.
type Delivery struct {
	Info      Info      // as far as it was established before the delivery ended
	Known     bool      // the router has a handler for Info.Kind; if not, it may be any text
	Outcome   Outcome   //
	Status    int       // what it was answered
	Reason    Reason    // why it was refused or buried; empty otherwise
	Err       error     // what the handler or the pipeline had to say; never a token or a payload
	LeaseLost bool      // while running, even if the work could still be marked as done
	Received  time.Time // when the pipeline began
	Started   time.Time // when the handler began; zero if it did not
	Ended     time.Time // when the handler returned; zero if it did not begin

	ctx context.Context
}

// Context is the context of the delivery: what [OnVerified] made of its
// request's, from which those of the handler and of the stores are derived. A
// span in it is the one to log and to count the delivery under.
func (d *Delivery) Context() context.Context {
	return cmp.Or(d.ctx, context.Background()) // no router made a Delivery that has none
}

// DeliveryFrom returns how the delivery went, in middleware on the group that
// the router is mounted on, after next. It is false where no delivery was. All
// middleware is given the same Delivery: leave it as it is, and copy it to keep
// it.
func DeliveryFrom(c echo.Context) (*Delivery, bool) {
	d, ok := c.Get(deliveryKey).(*delivery)
	if !ok || d.router == nil {
		return nil, false
	}
	return &d.result, true
}

// OnVerified has fn called in the delivery that c is about to be, once the
// caller is verified and the headers are read; the rest of the delivery, the
// handler included, runs under the context that fn returns, which is
// [Delivery.Context] and not the request's. It is for middleware on the group
// that must not believe a header any earlier, such as a trace parent. Call it
// before next; what was registered first is called first.
func OnVerified(c echo.Context, fn func(ctx context.Context, info Info) context.Context) {
	d := deliveryOf(c)
	if before := d.verified; before != nil {
		last := fn
		fn = func(ctx context.Context, info Info) context.Context { return last(before(ctx, info), info) }
	}
	d.verified = fn
}

// deliveryOf returns the delivery that c is about to be.
func deliveryOf(c echo.Context) *delivery {
	d, ok := c.Get(deliveryKey).(*delivery)
	if !ok || d.router != nil { // none, or one that is over
		d = new(delivery)
		c.Set(deliveryKey, d)
	}
	return d
}

// exchange is a request and its response, as the middleware has them.
type exchange = echo.Context

// deliver is the echo handler of every route. Bodies are empty: details go to
// the log, and strangers are told nothing.
func (r *Router) deliver(c echo.Context) error {
	d := deliveryOf(c)
	d.router, d.exchange, d.req = r, c, c.Request()
	d.result.Received, d.result.ctx = time.Now(), d.req.Context()
	d.process()
	d.result.Status = r.statuses[d.result.Outcome]
	if d.result.Outcome == Throttled {
		c.Response().Header().Set("Retry-After", retryAfter(d.result.Err))
	}
	return c.NoContent(d.result.Status)
}

// Shutdown stops taking deliveries, which are answered [Interrupted] from now
// on, and waits for the running ones. When ctx ends first, it cancels their
// handlers with [ErrInterrupted] and waits a little longer for them to return,
// so that their claims are released uncounted; handlers that still run keep
// their claims until the lease runs out, and the error counts them.
//
// Cloud Run kills a service 10 s after SIGTERM: give ctx about 8 s.
func (r *Router) Shutdown(ctx context.Context) error {
	r.drain()
	defer r.keeper.Close()
	defer r.cleanups.Wait()
	select {
	case <-r.drained:
		return nil
	case <-ctx.Done():
	}
	r.keeper.Interrupt(ErrInterrupted)
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
func (unfenced) Bury(context.Context, Lease, []byte) error  { return nil }
