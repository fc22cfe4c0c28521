package handoff

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path"
	"reflect"
	"strconv"
	"sync"
	"time"

	"github.com/brillconsulting/handoff/internal/wire"
)

// delivery is one request on its way through the pipeline.
type delivery struct {
	router *Router
	req    *http.Request
	begun  []Observer // those told that it began
	result Delivery
	writer http.ResponseWriter

	headerOnce sync.Once
	header     http.Header // the producer's own; made when first asked for

	stamp          wire.Stamp
	handler        *handler // nil if the kind has none here
	payload        any      // a *T
	decodeError    error    // why the payload cannot be run
	decodeWhy      Reason   // the same in a word
	body           []byte
	bodyRead       bool        // the connection has no more of it
	bodyAsSent     bool        // it could not be decompressed
	readingTimer   *time.Timer // nil without a body
	readingStopped bool        // guarded by the router
	freeBody       func()

	lease    heldLease
	claim    Claim
	marker   marker
	copyDue  time.Time       // when the copy that a completion opens is due
	buriedAs string          // the ID of its letter
	ctx      context.Context // of what goes on now: claim and run end with the caller, settling does not
	run      runContext
	next     nextCalls
	aborts   bool                    // the handler wants the connection aborted
	returns  bool                    // the goroutine goes on after the delivery
	cancel   context.CancelCauseFunc // of the claim and the run; nil before
}

// process takes the delivery through the pipeline, one step a line. A step
// that ends it sets the outcome and says false.
func (d *delivery) process() {
	if !d.verify() || !d.parse() {
		return
	}
	d.observeVerified()
	if !d.route() {
		return
	}
	defer d.close()
	if !d.read() {
		return
	}
	defer d.claimAndRun() // deferred, since decoding may call runtime.Goexit
	d.decode()
}

// claimAndRun is the part of the pipeline that the Store has to allow.
func (d *delivery) claimAndRun() {
	if d.acquire() && d.admit() {
		d.perform()
	}
}

func (d *delivery) close() {
	d.freeBody()
	if d.cancel != nil {
		d.router.keeper.remove(&d.lease)
		d.cancel(nil)
	}
}

func (d *delivery) end(o Outcome, err error) {
	d.result.Outcome, d.result.Err = o, err
	d.result.LeaseLost = d.result.LeaseLost || o == Lost
}

// refuse ends a delivery that never came as far as a claim.
func (d *delivery) refuse(o Outcome, reason Reason, err error) bool {
	d.end(o, err)
	d.result.Reason = cmp.Or(reason, Reason(o.String()))
	d.router.refused.add(d.result.ctx, o, d.result.Reason, err)
	return false
}

// verify establishes the caller before a header or a byte of the body is
// believed.
func (d *delivery) verify() bool {
	var caller Caller
	err := guard("Verifier.Verify", func() (err error) {
		caller, err = d.router.config.Verifier.Verify(d.req)
		return err
	})
	if err != nil {
		return d.refuse(rejectionOutcome(err), reasonOf(err), err)
	}
	d.result.Info.Caller = caller
	return true
}

// parse reads the service's headers and our own.
func (d *delivery) parse() bool {
	req := d.req
	family := &wire.HTTP
	if d.result.Info.Caller.AppEngine {
		family = &wire.AppEngine
	}
	dispatch, err := family.Read(req.Header)
	if err == nil {
		d.stamp, err = wire.ReadStamp(req.Header)
	}
	if err == nil && req.Method != http.MethodPost && req.Method != http.MethodPut && req.Method != http.MethodPatch {
		err = fmt.Errorf("method %s carries no payload", req.Method)
	}
	if err != nil {
		return d.refuse(Malformed, "", fmt.Errorf("handoff: not a Cloud Tasks delivery: %w", err))
	}
	info := &d.result.Info
	info.ID, info.Snoozes = d.stamp.ID, d.stamp.Snoozes
	info.Kind = cmp.Or(d.stamp.Kind, path.Base(req.URL.Path))
	info.Queue, info.Task = dispatch.Queue, dispatch.Task
	info.ScheduledAt, info.EnqueuedAt, info.ExpiresAt = dispatch.ETA, d.stamp.Enqueued, d.stamp.Expires
	info.RetryCount, info.PreviousResponse = dispatch.RetryCount, dispatch.PreviousResponse
	return true
}

// info returns what is known of the task, with the producer's own headers once
// they can be believed.
func (d *delivery) info() Info {
	info := d.result.Info
	if info.Task != "" {
		d.headerOnce.Do(func() { d.header = wire.OwnHeader(d.req.Header, d.stamp) })
		info.Header = d.header
	}
	return info
}

func (d *delivery) foreign() bool { return d.stamp.ID == "" }

func (d *delivery) expired() bool {
	return !d.stamp.Expires.IsZero() && d.result.Received.After(d.stamp.Expires)
}

// route finds the handler. An unknown kind is retried, because a rolling
// deploy may bring it, until the task expires.
func (d *delivery) route() bool {
	info := &d.result.Info
	h := d.router.handlers[info.Kind]
	if h == nil && !d.expired() {
		return d.refuse(UnknownKind, "", fmt.Errorf("handoff: no handler for this kind on queue %q", info.Queue))
	}
	d.handler, d.result.Known = h, h != nil
	switch {
	case d.stamp.MaxAttempts != 0:
		info.MaxAttempts = d.stamp.MaxAttempts
	case d.foreign():
		info.MaxAttempts = d.router.config.ForeignMaxAttempts
	case h != nil:
		info.MaxAttempts = h.policy.Retry.MaxAttempts
	}
	return true
}

// decode makes the payload of the body. A body that does not decode is buried
// in admit, under the claim.
func (d *delivery) decode() {
	if d.handler == nil || d.decodeError != nil {
		return
	}
	d.decodeWhy, d.decodeError = ReasonUndecodable, errDecodeExits
	d.payload, d.decodeWhy, d.decodeError = d.handler.decode(d.body)
}

var errDecodeExits = errors.New("handoff: decoding the payload called runtime.Goexit")

// acquire claims the task: duplicates and simultaneous deliveries end here.
func (d *delivery) acquire() bool {
	d.lease.Lease = Lease{
		Key:        d.fenceKey(),
		Owner:      strconv.FormatUint(rand.Uint64(), 36),
		Redrives:   d.stamp.Redrives,
		Generation: d.stamp.Generation,
		TTL:        d.router.config.Lease,
		Window:     d.unfinishedWindow(),
	}
	d.ctx, d.cancel = context.WithCancelCause(d.result.ctx)
	d.router.keeper.claiming(&d.lease, d.cancel)
	if !d.ask() {
		return false
	}
	if d.claim.Status == ClaimDead && !d.free() {
		return false
	}
	switch d.claim.Status {
	case ClaimDone, ClaimSuperseded, ClaimDead:
		d.end(Duplicate, nil)
		return false
	case ClaimBusy:
		d.end(Busy, nil)
		return false
	}
	if !d.router.keeper.acquired(&d.lease) {
		d.disown()
		return d.refuse(Unavailable, ReasonStore, fmt.Errorf("handoff: claim: %w", errNoResponse))
	}
	return true
}

// ask sends the claim to the Store, and notes what it says.
func (d *delivery) ask() bool {
	err := guard("Store.Claim", func() (err error) {
		d.claim, err = d.router.config.Store.Claim(d.ctx, d.lease.Lease)
		return err
	})
	if err != nil {
		d.disown()
		return d.refuse(Unavailable, ReasonStore, fmt.Errorf("handoff: claim: %w", err))
	}
	info := &d.result.Info
	info.Attempt, info.FencingToken = d.claim.Attempt, d.claim.Token
	if d.router.config.DangerouslyRunUnfenced {
		info.Attempt = info.RetryCount + 1
	}
	return true
}

// disown takes back a claim whose answer never came, or too late: if it was
// made after all, nobody else could run the task until the lease ends, and then
// it would be taken for an attempt that crashed. The release is repeated for as
// long as the lease could hold: the claim may still be on its way to the Store.
func (d *delivery) disown() {
	r, held := d.router, d.lease.Lease
	r.cleanups.Go(func() {
		ctx, cancel := context.WithTimeout(r.cleanupCtx, held.TTL)
		defer cancel()
		for pause := markPause; ; pause = min(2*pause, maxDisownPause) {
			err := guard("Store.Release", func() error {
				call, cancel := context.WithTimeout(ctx, storeTimeout)
				defer cancel()
				return r.config.Store.Release(call, held, false)
			})
			if err == nil {
				return
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return
			}
		}
	})
}

const maxDisownPause = 5 * time.Second

// admit buries, under the claim and unrun, what can never succeed.
func (d *delivery) admit() bool {
	if d.claim.Status == ClaimEnding {
		d.detach()
		d.finishBurial()
		return false
	}
	var reasons []Reason
	var err error
	if d.expired() {
		reasons = append(reasons, ReasonExpired)
		err = d.expiredError()
	}
	if d.decodeError != nil {
		reasons, err = append(reasons, d.decodeWhy), cmp.Or(err, d.decodeError)
	}
	if info := &d.result.Info; d.claim.Crashed && info.MaxAttempts > 0 && info.Attempt > info.MaxAttempts {
		reasons = append(reasons, ReasonCrashed)
		err = cmp.Or(err, fmt.Errorf("handoff: attempt %d ended with its worker", info.MaxAttempts))
	}
	if len(reasons) == 0 {
		return true
	}
	d.result.Info.Attempt-- // this one did not begin
	d.detach()
	d.bury(reasons, err)
	return false
}

// expiredError says what is known of the attempts before the task expired.
func (d *delivery) expiredError() error {
	info := &d.result.Info
	ago := d.result.Received.Sub(d.stamp.Expires).Round(time.Second)
	switch {
	case info.Attempt > 1:
		return fmt.Errorf("handoff: expired %s ago; attempt %d ended before, and the log of its worker has its error", ago, info.Attempt-1)
	case info.RetryCount > 0:
		return fmt.Errorf("handoff: expired %s ago; how an earlier attempt ended is not known", ago)
	}
	return fmt.Errorf("handoff: expired %s before it could run", ago)
}

// perform runs the handler under its deadline and with its lease kept, and
// settles what came of it.
func (d *delivery) perform() {
	d.startClock()
	defer d.run.end()

	// A handler that calls runtime.Goexit ends this goroutine; its claim is
	// settled on the way out.
	settled := false
	defer func() {
		if !settled {
			d.settle(errors.New("handoff: the handler abandoned its goroutine"))
		}
	}()
	d.result.Started = time.Now()
	err := verdict(d.call(&d.run))
	d.result.Ended = time.Now()
	settled = true
	d.settle(err)
}

// The share of the dispatch deadline that is kept for settling and answering,
// before Cloud Tasks hangs up.
const maxMargin = 5 * time.Second

// deadline is the dispatch deadline: how long Cloud Tasks waits for the answer.
func (d *delivery) deadline() time.Duration { return cmp.Or(d.stamp.Deadline, defaultDeadline) }

// limit is how long an attempt may take.
func (d *delivery) limit() time.Duration {
	deadline := d.deadline()
	limit := deadline - min(deadline/10, maxMargin)
	if d.router.config.MaxRun > 0 {
		limit = min(limit, d.router.config.MaxRun)
	}
	return limit
}

func (d *delivery) startClock() {
	d.result.Info.Deadline = d.result.Received.Add(d.limit())

	d.run = runContext{parent: d.ctx, delivery: d}
}

// call runs the Use middleware and the handler. A panic becomes an error; the
// one by which net/http is asked to abort the connection goes on, bare as
// net/http wants it, once the attempt is settled.
func (d *delivery) call(ctx context.Context) error {
	err := guard("the handler", func() error { return d.runHandler(ctx) })
	if p, ok := err.(*panicError); ok {
		if p.aborts() {
			d.aborts = true
			return errors.New("handoff: the handler aborted the connection")
		}
		d.router.log.ErrorContext(ctx, "handoff: the handler panicked", d.attrs("panic", p, "stack", string(p.stack))...)
	}
	return err
}

func (d *delivery) runHandler(ctx context.Context) error {
	run := d.router.run
	if run == nil {
		return d.handler.run(ctx, d.payload)
	}
	defer d.next.wait() // a middleware may panic and leave next running
	if err := run(ctx); err != nil || d.next.called() {
		return err
	}
	return errors.New("handoff: middleware returned nil without calling next; return Drop to end a task unrun")
}

// verdict returns err in a form that is safe to ask: the errors of a handler
// have methods of their own, which may panic.
func verdict(err error) error {
	if err == nil {
		return nil
	}
	if v := reflect.ValueOf(err); v.Kind() == reflect.Pointer && v.IsNil() {
		return fmt.Errorf("handoff: the handler returned a nil %T as an error, which is not nil; return nil where all went well", err)
	}
	if broken := guard("the handler's error", func() error { _, _ = err.Error(), OutcomeOf(err); return nil }); broken != nil {
		return broken
	}
	return err
}

// respond writes the status, which is all that Cloud Tasks reads. It is
// deferred and writes it also when the connection is given up: what recovers
// above the router might send a 200 otherwise.
func (d *delivery) respond(w http.ResponseWriter) {
	if !d.result.Outcome.valid() {
		d.end(Failed, errNoEnd)
	}
	if !d.bodyRead {
		d.limitRest()
	}
	status := d.router.statuses[d.result.Outcome]
	if d.result.Outcome == Throttled {
		w.Header().Set("Retry-After", retryAfter(d.result.Err))
	}
	w.WriteHeader(status)
	if d.returns {
		d.result.Status = status
	}
}

// attrs are the log attributes that name the task, followed by more.
func (d *delivery) attrs(more ...any) []any {
	info := &d.result.Info
	return append([]any{"kind", info.Kind, "queue", info.Queue, "task", info.Task, "attempt", info.Attempt}, more...)
}

// retryAfter is the Retry-After of a throttled delivery, in whole seconds.
func retryAfter(err error) string {
	in, _ := errors.AsType[*intent](err)
	seconds := int64(in.wait / time.Second)
	if in.wait%time.Second > 0 {
		seconds++
	}
	return strconv.FormatInt(seconds, 10)
}
