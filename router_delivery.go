package handoff

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path"
	"reflect"
	"strconv"
	"sync"
	"time"

	"github.com/brillconsulting/handoff/internal/create"
	"github.com/brillconsulting/handoff/internal/fence"
	"github.com/brillconsulting/handoff/internal/wire"
)

// delivery is one request on its way through the pipeline.
type delivery struct {
	router *Router
	req    *http.Request
	begun  []Observer // those whose End must be called
	result Delivery
	writer http.ResponseWriter

	mounted string // the kind of the handler of Raw that got the request; empty for the Router itself

	headerOnce sync.Once
	header     http.Header // the producer's own; made by the first call of info

	stamp       wire.Stamp
	handler     *handler // nil if none is registered for the kind
	payload     any      // a *T
	decodeError error    // why the payload cannot be handled; nil if it can
	decodeWhy   Reason   // the Reason of decodeError
	key         string   // fence key of keyed work: that of the stamp, or of the payload; empty otherwise
	body        []byte
	bodyRead    bool // the whole body was read
	bodyAsSent  bool // body is still compressed, because it could not be decompressed
	freeBody    func()

	lease   heldLease
	claim   Claim
	earlier int // attempts in claim that the record did not count: see wire.Attempts
	marker  marker
	resumed resumed
	ctx     context.Context // of the current step: the claim and the run end with the request, settling does not
	run     runContext
	next    nextCalls
	refused bool                    // ended by refuse
	aborts  bool                    // the handler panicked with http.ErrAbortHandler
	returns bool                    // ServeHTTP returns, so the response is sent
	cancel  context.CancelCauseFunc // cancels the claim and the run; nil before the claim
}

// process takes the delivery through the pipeline, one step a line. A step that
// ends the delivery sets the outcome and returns false.
func (d *delivery) process() {
	if !d.unsent() || !d.verify() || !d.parse() {
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

// claimAndRun is the part of the pipeline that needs the Store.
func (d *delivery) claimAndRun() {
	if d.acquire() && d.admit() {
		d.perform()
	}
}

func (d *delivery) close() {
	d.router.keeper.remove(&d.lease)
	if d.freeBody != nil { // nil if the reading panicked
		d.freeBody()
	}
	if d.cancel != nil {
		d.cancel(nil)
	}
}

func (d *delivery) end(o Outcome, err error) {
	d.result.Outcome, d.result.Err = o, err
	d.result.LeaseLost = d.result.LeaseLost || o == Lost
}

// refuse ends a delivery before it has a claim. It returns false.
func (d *delivery) refuse(o Outcome, reason Reason, err error) bool {
	d.end(o, err)
	d.result.Reason = cmp.Or(reason, Reason(o.String()))
	d.refused = true
	return false
}

// verify authenticates the caller. Until then no other header and no byte of the
// body is trusted.
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

// parse reads the headers of the service and of handoff.
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
	kind := cmp.Or(d.stamp.Kind, d.mounted, path.Base(req.URL.Path))
	if err == nil && !d.router.takes(kind, req.Method) {
		err = errors.New("its method carries no payload")
	}
	if err != nil {
		return d.refuse(Malformed, "", fmt.Errorf("handoff: not a Cloud Tasks delivery: %w", err))
	}
	info := &d.result.Info
	d.key = d.stamp.Key
	info.ID, info.Snoozes = d.stamp.ID, d.stamp.Snoozes
	info.Kind = kind
	info.Queue, info.Task = dispatch.Queue, dispatch.Task
	info.ScheduledAt, info.EnqueuedAt, info.ExpiresAt = dispatch.ETA, d.stamp.Enqueued, d.stamp.Expires
	info.RetryCount, info.PreviousResponse = dispatch.RetryCount, dispatch.PreviousResponse
	return true
}

// info returns what is known of the task. It has the producer's headers once the
// caller is verified.
func (d *delivery) info() Info {
	info := d.result.Info
	info.Step = d.resumed.currentStep()
	if info.Task != "" {
		d.headerOnce.Do(func() { d.header = wire.OwnHeader(d.req.Header, d.stamp) })
		info.Header = d.header
	}
	return info
}

func (d *delivery) foreign() bool { return d.stamp.ID == "" }

// untyped reports whether the task was created without its payload type: by another
// producer, or by EnqueueRequest. Nobody asked the type for its Policy then.
func (d *delivery) untyped() bool { return d.stamp.Kind == "" }

func (d *delivery) expired() bool {
	expires := d.result.Info.ExpiresAt
	return !expires.IsZero() && d.result.Received.After(expires)
}

// route finds the handler. Until it expires, a task of an unknown kind is retried,
// because a rolling deploy may add the handler.
func (d *delivery) route() bool {
	info := &d.result.Info
	h := d.router.handlers[info.Kind]
	var from error
	if h != nil {
		from = h.checkFrom(info.Caller) // also if h does not run: an expired task is buried
	}
	if d.mounted != "" && info.Kind != d.mounted {
		h = nil // a typed task of another kind
	}
	if h == nil && !d.expired() {
		return d.refuse(UnknownKind, "", fmt.Errorf("handoff: no handler for this kind on queue %q", info.Queue))
	}
	d.handler, d.result.Known = h, h != nil
	if from != nil {
		return d.refuse(Forbidden, ReasonCaller, from)
	}
	info.MaxAttempts = cmp.Or(d.stamp.MaxAttempts, d.router.config.ForeignMaxAttempts)
	switch {
	case info.MaxAttempts != 0 || h == nil:
	case d.foreign():
		info.MaxAttempts = h.declared.Retry.MaxAttempts
	default:
		info.MaxAttempts = h.policy.Retry.MaxAttempts
	}
	return true
}

// decode decodes the payload. If it cannot be decoded, admit buries the task under
// the claim.
func (d *delivery) decode() {
	if d.handler == nil || d.decodeError != nil {
		return
	}
	d.decodeWhy, d.decodeError = ReasonUndecodable, errDecodeExits
	payload, why, err := d.handler.decode(d.body)
	if err == nil && d.key == "" && d.handler.keyed {
		why = ReasonInvalid
		d.key, err = d.keyOfPayload(payload)
	}
	d.payload, d.decodeWhy, d.decodeError = payload, why, err
}

// keyOfPayload returns the fence key that the task would have if Enqueue had
// created it.
func (d *delivery) keyOfPayload(payload any) (string, error) {
	key, err := idempotencyKey(payload)
	if err != nil {
		return "", fmt.Errorf("handoff: the payload is not valid: %w", err)
	}
	return fence.Work{Project: d.router.config.Project, Kind: d.handler.oldest, Key: key}.FenceKey(), nil
}

var errDecodeExits = errors.New("handoff: decoding the payload called runtime.Goexit")

// acquire claims the work. Duplicates and simultaneous deliveries end here.
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

// ask sends the claim to the Store and records the result.
func (d *delivery) ask() bool {
	err := guard("Store.Claim", func() (err error) {
		d.claim, err = d.router.config.Store.Claim(d.ctx, d.lease.Lease)
		return err
	})
	if err != nil {
		d.disown()
		return d.refuse(Unavailable, ReasonStore, fmt.Errorf("handoff: claim: %w", err))
	}
	if !d.claim.First.IsZero() {
		d.earlier = d.stamp.Attempts.Before(d.claim.First.UnixMicro())
		d.claim.Attempt += d.earlier
	}
	info := &d.result.Info
	info.Attempt, info.FencingToken = d.claim.Attempt, d.claim.Token
	if ttl := d.declaredTTL(); ttl > 0 && info.ExpiresAt.IsZero() {
		info.ExpiresAt = d.claim.First.Add(ttl)
	}
	if d.router.config.DangerouslyRunUnfenced {
		info.Attempt = info.RetryCount + 1
	}
	return true
}

// declaredTTL returns the TTL that the type of an untyped task declares. It counts
// from the first delivery, since nothing says when the task was first due: the ETA
// of a retry is its own.
func (d *delivery) declaredTTL() time.Duration {
	if !d.untyped() || d.handler == nil || d.claim.First.IsZero() {
		return 0
	}
	return d.handler.declared.TTL
}

// disown releases a claim whose result did not arrive in time. If the Store made
// the claim after all, no delivery could run the task until the lease ran out, and
// the attempt would count as crashed. The release is repeated until it succeeds or
// the lease has run out, because the claim may still be on its way to the Store.
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

// admit buries a task that can never succeed, without running it.
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

// expiredError returns an error that says what is known of the earlier attempts.
func (d *delivery) expiredError() error {
	info := &d.result.Info
	ago := d.result.Received.Sub(info.ExpiresAt).Round(time.Second)
	switch {
	case info.Attempt > 1:
		return fmt.Errorf("handoff: expired %s ago; attempt %d ended before, and the log of its worker has its error", ago, info.Attempt-1)
	case info.RetryCount > 0:
		return fmt.Errorf("handoff: expired %s ago; how an earlier attempt ended is not known", ago)
	}
	return fmt.Errorf("handoff: expired %s before it could run", ago)
}

// perform runs the handler and settles its result. The lease is renewed meanwhile.
func (d *delivery) perform() {
	d.startClock()
	defer d.run.end()

	// A handler that calls runtime.Goexit ends this goroutine. The deferred
	// function settles its claim.
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

// maxMargin is the longest part of the dispatch deadline that is kept for settling
// and for the response, before Cloud Tasks closes the connection.
const maxMargin = 5 * time.Second

// deadline is the dispatch deadline: how long Cloud Tasks waits for the response. The
// sender of a request could otherwise hold it for ever with a stamp that says more
// than the service allows.
func (d *delivery) deadline() time.Duration {
	longest := create.MaxDeadline
	if d.result.Info.Caller.AppEngine {
		longest = create.MaxDeadlineAppEngine
	}
	return min(cmp.Or(d.stamp.Deadline, defaultDeadline), longest)
}

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

// call runs the middleware of Use and the handler. It returns a panic as an error.
// After http.ErrAbortHandler, ServeHTTP panics with that value again once the
// attempt is settled, so that net/http aborts the connection.
func (d *delivery) call(ctx context.Context) error {
	err := guard("the handler", func() error { return d.runHandler(ctx) })
	if p, ok := err.(*panicError); ok {
		if p.aborts() {
			d.aborts = true
			return errors.New("handoff: the handler aborted the connection")
		}
		d.log(slog.LevelError, "handoff: the handler panicked", "panic", p, "stack", string(p.stack))
	}
	return err
}

func (d *delivery) runHandler(ctx context.Context) error {
	run := d.router.run
	if run == nil {
		return d.handler.run(ctx, d.payload)
	}
	defer d.next.wait() // middleware may return or panic while next still runs
	if err := run(ctx); err != nil || d.next.called() {
		return err
	}
	return errors.New("handoff: middleware returned nil without calling next; return Drop to delete a task without running it")
}

// verdict returns err if its methods can be called safely. A handler's error is a
// nil pointer or has methods that panic otherwise, and verdict returns an error
// that says so.
func verdict(err error) error {
	if err == nil {
		return nil
	}
	if v := reflect.ValueOf(err); v.Kind() == reflect.Pointer && v.IsNil() {
		return fmt.Errorf("handoff: the handler returned a nil %T as an error, which is not a nil error; return nil for success", err)
	}
	if broken := guard("the handler's error", func() error { _, _ = err.Error(), OutcomeOf(err); return nil }); broken != nil {
		return broken
	}
	return err
}
