package handoff_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/memstore"
)

// shaky is a payload whose methods misbehave as the test wants.
type shaky struct {
	Where string `json:"where"`
	How   string `json:"how"`
}

func (shaky) Kind() string { return "shaky" }

func (s *shaky) UnmarshalJSON(b []byte) error {
	type plain shaky
	if err := json.Unmarshal(b, (*plain)(s)); err != nil {
		return err
	}
	return s.at("UnmarshalJSON")
}

func (s shaky) Validate() error { return s.at("Validate") }

func (s shaky) at(where string) error {
	if s.Where != where {
		return nil
	}
	return misbehave(s.How)
}

func misbehave(how string) error {
	switch how {
	case "panic":
		panic("out of order")
	case "panic with an intent":
		panic(handoff.Permanent(errBoom))
	case "abort":
		panic(http.ErrAbortHandler)
	case "abort, wrapped":
		panic(fmt.Errorf("mine: %w", http.ErrAbortHandler))
	case "exit":
		runtime.Goexit()
	case "typed nil":
		var none *textError
		return none
	case "error that panics":
		return brokenError{}
	}
	return nil
}

type textError struct{ text string }

func (e *textError) Error() string { return e.text }

type brokenError struct{}

func (brokenError) Error() string { panic("no text") }

// brokenCode is a Verifier, a Store and a DeadLetterStore whose calls misbehave as
// the test wants.
type brokenCode struct {
	handoff.Store
	handoff.DeadLetterStore
	where, how string
}

func (b *brokenCode) at(where string) error {
	if b.where != where {
		return nil
	}
	b.where = "" // once
	return misbehave(b.how)
}

func (b *brokenCode) Verify(*http.Request) (handoff.Caller, error) {
	return handoff.Caller{}, b.at("Verifier")
}

func (b *brokenCode) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	_ = b.at("Claim")
	return b.Store.Claim(ctx, l)
}

func (b *brokenCode) Complete(ctx context.Context, l handoff.Lease) error {
	_ = b.at("Complete")
	return b.Store.Complete(ctx, l)
}

func (b *brokenCode) Release(ctx context.Context, l handoff.Lease, counted bool) error {
	_ = b.at("Release")
	return b.Store.Release(ctx, l, counted)
}

func (b *brokenCode) End(ctx context.Context, l handoff.Lease, note []byte) error {
	_ = b.at("End")
	return b.Store.End(ctx, l, note)
}

func (b *brokenCode) Put(ctx context.Context, letter handoff.DeadLetter) error {
	_ = b.at("Put")
	return b.DeadLetterStore.Put(ctx, letter)
}

// TestUserCode is the table of what happens if the user's code misbehaves: the
// status of the first delivery and of the next.
func TestUserCode(t *testing.T) {
	t.Parallel()
	const panics, exits = "panic", "exit"
	for _, tc := range []struct {
		where, how string
		returns    error // by the handler, if it works
		statuses   [2]int
		reason     handoff.Reason // of the letter; empty if there is none at the end
		says       string         // in the letter or in the Delivery
	}{
		{"UnmarshalJSON", panics, nil, [2]int{205, 208}, handoff.ReasonUndecodable, "unmarshaller panicked"},
		{"UnmarshalJSON", exits, nil, [2]int{0, 0}, handoff.ReasonUndecodable, "runtime.Goexit"},
		{"UnmarshalJSON", "typed nil", nil, [2]int{205, 208}, handoff.ReasonUndecodable, "unmarshaller refused it"},
		{"Validate", panics, nil, [2]int{205, 208}, handoff.ReasonInvalid, "Validate panicked: out of order"},
		{"Validate", exits, nil, [2]int{0, 0}, handoff.ReasonUndecodable, "runtime.Goexit"},
		{"Validate", "abort", nil, [2]int{205, 208}, handoff.ReasonInvalid, "Validate panicked"},
		{"Validate", "error that panics", nil, [2]int{205, 208}, handoff.ReasonInvalid, "no text"},
		{"handler", panics, nil, [2]int{500, 200}, "", "the handler panicked: out of order"},
		{"handler", "panic with an intent", nil, [2]int{500, 200}, "", "the handler panicked"},
		{"handler", "abort", nil, [2]int{0, 200}, "", "aborted the connection"},
		{"handler", "abort, wrapped", nil, [2]int{0, 200}, "", "aborted the connection"},
		{"handler", exits, nil, [2]int{0, 200}, "", "abandoned its goroutine"},
		{"handler", "typed nil", nil, [2]int{500, 200}, "", "nil *handoff_test.textError as an error"},
		{"handler", "error that panics", nil, [2]int{500, 200}, "", "the handler's error panicked: no text"},
		{"Verifier", panics, nil, [2]int{401, 200}, "", "Verifier.Verify panicked"},
		{"Verifier", exits, nil, [2]int{0, 200}, "", "abandoned"},
		{"Claim", panics, nil, [2]int{503, 200}, "", "Store.Claim panicked"},
		{"Claim", exits, nil, [2]int{0, 200}, "", "abandoned"},
		{"Complete", panics, nil, [2]int{200, 208}, "", ""}, // it is repeated
		{"Release", panics, errBoom, [2]int{500, 409}, "", "boom"},
		{"End", panics, handoff.Permanent(errBoom), [2]int{205, 208}, handoff.ReasonPermanent, "boom"}, // it is repeated
		{"Put", panics, handoff.Permanent(errBoom), [2]int{503, 205}, handoff.ReasonPermanent, "boom"},
		{"OnDead", panics, handoff.Permanent(errBoom), [2]int{205, 208}, handoff.ReasonPermanent, "boom"},
		{"OnDead", exits, handoff.Permanent(errBoom), [2]int{0, 208}, handoff.ReasonPermanent, "boom"},
	} {
		t.Run(tc.where+" "+tc.how, func(t *testing.T) {
			t.Parallel()
			var ended handoff.Delivery
			broken := &brokenCode{where: tc.where, how: tc.how}
			b := newFixture(t, func(c *handoff.RouterConfig) {
				broken.Store, broken.DeadLetterStore = memstore.New(), c.DeadLetters
				c.DangerouslyAllowUnauthenticated = false
				c.Verifier, c.Store, c.DeadLetters = broken, broken, broken
				c.OnDead = func(context.Context, handoff.DeadLetter) { _ = broken.at("OnDead") }
				c.Observers = []handoff.Observer{{End: func(_ context.Context, d handoff.Delivery) { ended = d }}}
			})
			handoff.Handle(b.Router, func(context.Context, shaky) error {
				return errors.Join(broken.at("handler"), tc.returns)
			})
			if tc.how == "typed nil" && tc.where == "handler" { // errors.Join would hide it
				b.Use(func(next handoff.Handler) handoff.Handler {
					return func(ctx context.Context) error {
						if broken.where == "" {
							return next(ctx)
						}
						return broken.at("handler")
					}
				})
			}
			d := typed("1", "x")
			d.kind = "shaky"
			d.body = fmt.Sprintf(`{"where":%q,"how":%q}`, tc.where, tc.how)
			assert.Equal(t, b.deliver(d), tc.statuses[0])
			first := ended
			if tc.statuses[0] == 0 {
				assert.Status(t, first.Status, 0)
			}
			assert.Equal(t, b.deliver(d), tc.statuses[1])
			if tc.reason == "" {
				b.noLetters(t)
				if text := fmt.Sprint(first.Err); !strings.Contains(text, tc.says) {
					t.Errorf("the delivery says %q, want %q", text, tc.says)
				}
				return
			}
			letter := b.onlyLetter(t)
			assert.Equal(t, letter.Reasons, []handoff.Reason{tc.reason})
			if !strings.Contains(letter.LastErr, tc.says) {
				t.Errorf("the letter says %q, want %q", letter.LastErr, tc.says)
			}
		})
	}
}

// deliver sends d as net/http would. It returns 0 if the connection was aborted.
func (b *fixture) deliver(d task) (status int) {
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				panic(p)
			}
		}()
		rec := httptest.NewRecorder()
		b.ServeHTTP(rec, d.request())
		status = rec.Code
	})
	wg.Wait()
	return status
}

func TestHandleRefusesANilHandler(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	defer func() {
		if text := fmt.Sprint(recover()); !strings.Contains(text, "guard_test.go") || !strings.Contains(text, "the handler is nil") {
			t.Errorf("panicked with %q", text)
		}
	}()
	handoff.Handle[note](b.Router, nil)
}
