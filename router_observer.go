package handoff

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/brillconsulting/handoff/internal/watch"
)

// Observer watches deliveries: for logs, traces and metrics, which package
// middleware has. It decides nothing. Its functions are called in the
// goroutine of the delivery, so they must be safe for concurrent use and
// should be quick; a nil one is not called. A panic in one is logged and
// changes nothing.
//
// Every delivery has one Begin and one End, in a pair; in between it has one
// Verified if its caller may deliver and its headers are those of a task.
type Observer struct {
	_ [0]func()

	// Begin is called when a request comes in. Nothing in it is verified:
	// anybody can send one. It must not read the body or change the request.
	Begin func(ctx context.Context, req *http.Request)

	// Verified is called once the caller is verified and the headers are
	// read, with the headers of the request, which it must not change. The
	// context it returns is that of the rest of the delivery, the handler and
	// the following observers included; it must be derived from ctx, and nil
	// stands for ctx.
	Verified func(ctx context.Context, info Info, header http.Header) context.Context

	// End is called when the response is written, or will never be: also
	// after refusals, after a panic and when the goroutine of the delivery or
	// its connection is given up. ctx is that of the delivery, and may be
	// over.
	End func(ctx context.Context, d Delivery)
}

// Delivery is how one delivery went.
type Delivery struct {
	Info      Info      // as far as it was established before the delivery ended
	Known     bool      // the router has a handler for Info.Kind; if not, it may be any text
	Outcome   Outcome   //
	Status    int       // of the response; 0: none was sent, and Cloud Tasks retries
	Reason    Reason    // why it was refused or buried; empty otherwise
	Err       error     // what the handler or the pipeline returned; never a token or a payload
	LeaseLost bool      // while running, even if the work could still be marked as done
	Received  time.Time // when the request came in
	Started   time.Time // when the attempt began, middleware included; zero if it did not
	Ended     time.Time // when the attempt ended; zero if it did not begin

	ctx context.Context
}

// Context returns the context of the delivery: what the observers made of its
// request's, from which those of the handler and of the stores are derived. A
// span in it is the one to log and to count the delivery under.
func (d *Delivery) Context() context.Context {
	return cmp.Or(d.ctx, context.Background()) // no router made a Delivery that has none
}

// observeBegin tells the observers of the request, and notes which were told.
func (d *delivery) observeBegin(observers []Observer) {
	for i, o := range observers {
		d.begun = observers[:i+1]
		if o.Begin != nil {
			d.observe("Begin", func() { o.Begin(d.result.ctx, d.req) })
		}
	}
}

// observeVerified lets the observers choose the context of the rest.
func (d *delivery) observeVerified() {
	for _, o := range d.begun {
		if o.Verified == nil {
			continue
		}
		d.observe("Verified", func() {
			if ctx := o.Verified(d.result.ctx, d.info(), d.req.Header); ctx != nil {
				d.result.ctx = ctx //nolint:fatcontext // each observer adds to what the one before it returned
			}
		})
	}
}

var errNoEnd = errors.New("handoff: the delivery was abandoned")

// observeEnd tells each observer that was told of the begin. It is deferred, so
// that it runs after a panic and a Goexit too.
func (d *delivery) observeEnd() {
	watched, _ := d.req.Context().Value(watch.Key{}).(func(Delivery))
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
	defer d.tellEnd(observers[1:], result) // also if this one calls Goexit
	if end := observers[0].End; end != nil {
		d.observe("End", func() { end(result.ctx, result) })
	}
}

// observe calls a function of an observer, under recover.
func (d *delivery) observe(name string, call func()) {
	err := guard("Observer."+name, func() error { call(); return nil })
	if p, ok := err.(*panicError); ok {
		d.router.log.ErrorContext(d.result.ctx, "handoff: an observer panicked",
			d.attrs("error", p, "stack", string(p.stack))...)
	}
}
