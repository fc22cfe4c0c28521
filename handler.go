package handoff

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"sync"

	"github.com/brillconsulting/handoff/internal/strictjson"
)

// Handler runs the task of its context, which it gets by [InfoFromContext] and
// [PayloadFromContext]. Its error decides the outcome. [Handle] makes a Handler
// of a function that takes the payload.
type Handler func(ctx context.Context) error

// Middleware wraps the handler of every task; pass it to [Router.Use]. The error
// it returns decides the outcome of the task. It has no response to write.
//
// It calls next with its own ctx or one derived from it, once or more often, and
// should return after next does: the task is settled only after that. If it
// returns nil without having called next, the attempt fails; return [Drop],
// [Snooze], [BusyFor] or [ErrBusy] instead.
type Middleware func(next Handler) Handler

// Handle registers fn for the tasks whose payload is a T: for its Kind and its
// Aliases. The payload is decoded and valid; [InfoFromContext] returns the rest
// of the task. What fn returns decides the outcome: nil is done, an error is
// retried with backoff, unless it is [Permanent], [Drop], [Snooze], [RetryIn],
// [Continue] or [RetryAfter]. Of several of these in an [errors.Join], the first
// decides. A panic counts as an error.
//
// ctx ends at the dispatch deadline, when the caller closes the connection, when
// the lease is lost ([ErrLeaseLost]), or when the context of a shutdown ends
// ([ErrInterrupted]); [context.Cause] returns the reason. The lease is renewed
// until fn returns, so an fn that ignores ctx delays its task but does not run
// twice.
//
// Call Handle before the router serves. It panics if fn is nil, or if the kind
// is not valid or already has a handler, naming the kind and both places.
func Handle[T Payload](r *Router, fn func(ctx context.Context, payload T) error, options ...HandleOption) {
	where := "Handle at an unknown place"
	if _, file, line, ok := runtime.Caller(1); ok {
		where = fmt.Sprintf("Handle at %s:%d", file, line)
	}
	if fn == nil {
		panic(fmt.Sprintf("handoff: %s: the handler is nil", where))
	}
	zero := zeroPayload[T](where)
	declared := policyOf(zero)
	r.register(&handler{
		kind:     zero.Kind(),
		where:    where,
		declared: declared,
		policy:   declared.over(defaultPolicy),
		decode:   decoder[T](zero),
		keyed:    isKeyed(new(T)),
		run:      func(ctx context.Context, payload any) error { return fn(ctx, *payload.(*T)) },
	}, aliasesOf(zero), options)
}

// handler is a registered function without its type parameter. Its payload is a
// *T.
type handler struct {
	kind     string
	oldest   string // the last of the aliases, or kind
	where    string
	declared Policy // what the type's Policy returns
	policy   Policy // declared, with the defaults
	raw      bool   // of Raw
	keyed    bool   // the payload has an IdempotencyKey
	from     []source
	decode   func(body []byte) (payload any, reason Reason, err error)
	run      func(ctx context.Context, payload any) error

	cannotCopy sync.Once // the log says that tasks of this kind cannot be copied for later
}

func decoder[T Payload](zero T) func(body []byte) (any, Reason, error) {
	_, validates := any(zero).(validator) // converting a payload to an interface would copy it
	return func(body []byte) (any, Reason, error) {
		if bytes.Equal(bytes.TrimSpace(body), []byte("null")) {
			return nil, ReasonUndecodable, errors.New("handoff: the body is null")
		}
		payload := new(T)
		if err := strictjson.Check(body, reflect.TypeFor[T]()); err != nil {
			return nil, ReasonUndecodable, fmt.Errorf("handoff: the body is JSON that is not taken: %w", err)
		}
		err := guard("UnmarshalJSON", func() error { return json.Unmarshal(body, payload) })
		if err != nil {
			return nil, ReasonUndecodable, fmt.Errorf("handoff: the body is not a %T in JSON: %w", *payload, withoutValue(err, reflect.TypeFor[T]()))
		}
		if validates {
			if err := guard("Validate", func() error { return validate(*payload) }); err != nil {
				return payload, ReasonInvalid, fmt.Errorf("handoff: the payload is not valid: %w", err)
			}
		}
		return payload, "", nil
	}
}

// withoutValue returns an error of encoding/json without the parts that quote
// the body: payloads must not be in logs and errors.
func withoutValue(err error, payload reflect.Type) error {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("field %q needs a %s (offset %d)", declaredField(payload, e.Field), e.Type, e.Offset)
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("syntax error at offset %d", e.Offset)
	}
	if _, ok := errors.AsType[*panicError](err); ok {
		return errors.New("its own unmarshaller panicked")
	}
	return errors.New("its own unmarshaller refused it")
}

// declaredField returns the beginning of a path that the fields of t declare.
// Since Go 1.27 a path of encoding/json has the places of elements, which are left
// out, and goes on with the keys of maps, which are payload.
func declaredField(t reflect.Type, path string) string {
	var declared []string
	for name := range strings.SplitSeq(path, ".") {
		number, element := strings.Trim(name, "0123456789") == "", false
		for !element && (t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Array) {
			element = number && t.Kind() != reflect.Pointer
			t = t.Elem()
		}
		if element {
			continue
		}
		field, ok := fieldNamed(t, name)
		if !ok {
			break
		}
		declared, t = append(declared, name), field.Type
	}
	return strings.Join(declared, ".")
}

func fieldNamed(t reflect.Type, name string) (reflect.StructField, bool) {
	if t.Kind() != reflect.Struct {
		return reflect.StructField{}, false
	}
	for _, field := range reflect.VisibleFields(t) {
		tag, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == cmp.Or(tag, field.Name) {
			return field, true
		}
	}
	return reflect.StructField{}, false
}

func zeroPayload[T Payload](where string) T {
	var zero T
	switch t := reflect.TypeFor[T](); t.Kind() {
	case reflect.Interface:
		panic(fmt.Sprintf("handoff: %s: payload type %s is an interface; use the concrete type", where, t))
	case reflect.Pointer:
		zero = reflect.New(t.Elem()).Interface().(T)
	}
	return zero
}

func aliasesOf(p any) []string {
	if with, ok := p.(interface{ Aliases() []string }); ok {
		return with.Aliases()
	}
	return nil
}

// register panics for a kind that cannot work: it is a mistake in the program,
// found at start-up.
func (r *Router) register(h *handler, aliases []string, options []HandleOption) {
	if r == nil {
		panic(fmt.Sprintf("handoff: %s: the Router is nil; check the error of NewRouter", h.where))
	}
	if r.serving.Load() {
		panic(fmt.Sprintf("handoff: %s, after the router began to serve: register handlers before", h.where))
	}
	h.apply(options)
	kinds := append([]string{h.kind}, aliases...)
	h.oldest = kinds[len(kinds)-1]
	for _, kind := range kinds {
		if err := checkKind(kind); err != nil {
			panic(fmt.Sprintf("%v (%s)", err, h.where))
		}
		if other, taken := r.handlers[kind]; taken {
			panic(fmt.Sprintf("handoff: kind %q has two handlers: %s and %s", kind, other.where, h.where))
		}
		r.handlers[kind] = h
	}
}

// runHandler is the innermost Handler: it calls the registered function.
func runHandler(ctx context.Context) error {
	d, ok := ctx.Value(infoKey{}).(*delivery)
	if !ok {
		return errors.New("handoff: middleware called next with a context that is not derived from its own")
	}
	if !d.next.begin() {
		return errors.New("handoff: middleware called next after it returned")
	}
	defer d.next.running.Done()
	d.resumed.forget()
	return d.handler.run(ctx, d.payload)
}

// nextCalls tracks the calls of the handler by middleware, which may call it in
// another goroutine and return first.
type nextCalls struct {
	mu      sync.Mutex
	any     bool // it was called
	over    bool // the middleware has returned
	running sync.WaitGroup
}

func (c *nextCalls) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return false
	}
	c.any = true
	c.running.Add(1)
	return true
}

func (c *nextCalls) called() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.any
}

// wait returns when no handler is running and none can begin.
func (c *nextCalls) wait() {
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	c.running.Wait()
}
