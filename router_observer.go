package handoff

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/brillconsulting/handoff/internal/watch"
)

// Observer watches deliveries, for logs, traces and metrics. Package middleware
// has one for each. An Observer cannot change the outcome. Its functions are
// called in the goroutine of the delivery, so they must be safe for concurrent
// use and should be quick. A nil function is not called; at least one must be set.
// A panic in one is logged and changes nothing.
//
// Begin and End are called once for each delivery. Verified is called once in
// between if the caller may deliver and the headers are those of a task.
type Observer struct {
	_ [0]func()

	// Begin is called when a request arrives. Nothing in the request is
	// verified: anybody may have sent it. Begin must not read the body or change
	// the request.
	Begin func(ctx context.Context, req *http.Request)

	// Verified is called when the caller is verified and the headers are parsed.
	// header is that of the request and must not be changed. The returned
	// context replaces ctx for the rest of the delivery: for the handler, the
	// stores and the observers that follow. It must be derived from ctx; nil
	// keeps ctx.
	Verified func(ctx context.Context, info Info, header http.Header) context.Context

	// End is called when the delivery is over: after the response, a refusal, a
	// panic, a runtime.Goexit or an aborted connection. ctx is that of the
	// delivery and may have ended.
	End func(ctx context.Context, d Delivery)

	// Logs reports that End logs how each delivery ended: its outcome, reasons
	// and error. The router then does not log them too. It still logs what no
	// Delivery tells, such as the stack of a panic. Defaults to false.
	Logs bool
}

// check returns an error if an Observer of NewRouter can do nothing.
func (o *Observer) check(i int) error {
	switch {
	case o.Begin == nil && o.Verified == nil && o.End == nil:
		return fmt.Errorf("handoff: RouterConfig.Observers[%d] has no function; set Begin, Verified or End, or leave it out", i)
	case o.Logs && o.End == nil:
		return fmt.Errorf("handoff: RouterConfig.Observers[%d] has Logs set and no End, so nothing would log how deliveries end", i)
	}
	return nil
}

// Delivery is how one delivery ended.
type Delivery struct {
	Info      Info      // what was known of the task when the delivery ended
	Known     bool      // the router has a handler for Info.Kind; if false, Info.Kind may be any text
	Outcome   Outcome   // how the delivery ended
	Status    int       // status that was sent; 0 if none was, or not the router's: Cloud Tasks retries
	Reason    Reason    // why the delivery was refused or its task buried; empty otherwise
	Err       error     // error of the handler or the pipeline; the pipeline's holds no token and no payload
	LeaseLost bool      // the lease was lost during the attempt, even if the work could still be marked as done
	Received  time.Time // when the request arrived
	Started   time.Time // when the attempt began, with its middleware; zero if it did not begin
	Ended     time.Time // when the attempt ended; zero if it did not begin

	// MoreReasons are the other reasons why the task was buried, such as
	// ReasonUndecodable of a task that is expired too. Usually there are none.
	MoreReasons []Reason

	ctx context.Context
}

// Context returns the context of the delivery: that of the request, with what
// the observers added. The contexts of the handler and of the stores are derived
// from it. Use it to log and count the delivery under its span. It is
// [context.Background] for a Delivery that no router made.
func (d *Delivery) Context() context.Context {
	return cmp.Or(d.ctx, context.Background())
}

// observeBegin calls Begin of the observers, and notes whose End must be called.
func (d *delivery) observeBegin(observers []Observer) {
	for i, o := range observers {
		d.begun = observers[:i+1]
		if o.Begin != nil {
			d.observe("Begin", func() { o.Begin(d.result.ctx, d.req) })
		}
	}
}

// observeVerified calls Verified of the observers, each with the context that the
// one before returned.
func (d *delivery) observeVerified() {
	for _, o := range d.begun {
		if o.Verified == nil {
			continue
		}
		d.observe("Verified", func() {
			if ctx := o.Verified(d.result.ctx, d.info(), d.req.Header); ctx != nil {
				d.result.ctx = ctx //nolint:fatcontext // each observer extends the context of the one before
			}
		})
	}
}

var errNoEnd = errors.New("handoff: the delivery was abandoned")

// observeEnd calls End of each observer whose turn for Begin came. It is
// deferred, so that it runs after a panic and a runtime.Goexit too.
func (d *delivery) observeEnd() {
	watched, _ := d.req.Context().Value(watch.Key{}).(func(Delivery))
	if !slices.ContainsFunc(d.begun, func(o Observer) bool { return o.Logs }) {
		d.logEnd()
	}
	if watched == nil && len(d.begun) == 0 {
		return
	}
	result := d.result
	result.Info = d.info()
	if watched != nil {
		watched(result)
	}
	d.tellEnd(d.begun, result)
}

func (d *delivery) tellEnd(observers []Observer, result Delivery) {
	if len(observers) == 0 {
		return
	}
	defer d.tellEnd(observers[1:], result) // runs even if this observer calls runtime.Goexit
	if end := observers[0].End; end != nil {
		d.observe("End", func() { end(result.ctx, result) })
	}
}

// observe calls a function of an observer and logs its panic.
func (d *delivery) observe(name string, call func()) {
	err := guard("Observer."+name, func() error { call(); return nil })
	if p, ok := err.(*panicError); ok {
		d.log(slog.LevelError, "handoff: an observer panicked", "error", p, "stack", string(p.stack))
	}
}
