package handoff_test

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
)

// mine is a payload that panics in the method that In names.
type mine struct{ In string }

func (m mine) explode(in string) {
	if m.In == in {
		panic("boom in " + in)
	}
}

func (m mine) Kind() string           { m.explode("Kind"); return "mine" }
func (m mine) Policy() handoff.Policy { m.explode("Policy"); return handoff.Policy{} }
func (m mine) Aliases() []string      { m.explode("Aliases"); return nil }
func (m mine) IdempotencyKey() string { m.explode("IdempotencyKey"); return "k" + m.In }
func (m mine) Validate() error        { m.explode("Validate"); return nil }
func (m mine) MarshalJSON() ([]byte, error) {
	m.explode("MarshalJSON")
	return []byte(`{}`), nil
}

// A panic in the code of a payload is returned as an error, by Enqueue and in a
// batch, and creates no task.
func TestEnqueuePayloadPanics(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"Kind", "Policy", "Aliases", "IdempotencyKey", "Validate", "MarshalJSON"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			server := &taskServer{batch: accept}
			client := server.client(t, nil)
			_, err := client.Enqueue(t.Context(), mine{method})
			assert.ErrorContains(t, err, "handoff: enqueue", "mine", "panicked", "boom in "+method)
			var outcomes []string
			for receipt, err := range handoff.EnqueueBatch(t.Context(), client, slices.Values([]mine{{"A"}, {method}, {"B"}})) {
				outcomes = append(outcomes, outcomeOfBatch(receipt, err))
			}
			want := []string{"created", "failed", "created"}
			if method == "Aliases" { // it is asked once for the type
				want[1] = "created"
			}
			assert.Equal(t, outcomes, want)
		})
	}
}

// A Goexit in the code of a payload ends the caller's goroutine. It creates no task
// and leaves no goroutine of a batch running.
func TestEnqueuePayloadGoexit(t *testing.T) {
	t.Parallel()
	server := &taskServer{batch: accept}
	client := server.client(t, nil)
	var wg sync.WaitGroup
	returned := false
	wg.Go(func() {
		for _, err := range handoff.EnqueueBatch(t.Context(), client, func(yield func(job) bool) {
			yield(job{1})
			runtime.Goexit()
		}) {
			t.Error(err)
		}
		returned = true
	})
	wg.Wait()
	assert.Equal(t, returned, false)
	_, err := client.Enqueue(t.Context(), job{2})
	assert.NoError(t, err)
}

func TestInstrumentPanics(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		instrument func(context.Context, handoff.Enqueuing) (context.Context, func(handoff.Receipt, error))
		says       []string // empty if the task is created
	}{
		"at once": {func(context.Context, handoff.Enqueuing) (context.Context, func(handoff.Receipt, error)) {
			panic("boom")
		}, []string{"ClientConfig.Instrument panicked: boom"}},
		"no context": {func(context.Context, handoff.Enqueuing) (context.Context, func(handoff.Receipt, error)) {
			return nil, nil
		}, []string{"nil context"}},
		"a body's header": {func(ctx context.Context, e handoff.Enqueuing) (context.Context, func(handoff.Receipt, error)) {
			e.Header["content-encoding"] = "br"
			return ctx, nil
		}, []string{"Content-Encoding", "payload"}},
		"at the end": {func(ctx context.Context, _ handoff.Enqueuing) (context.Context, func(handoff.Receipt, error)) {
			return ctx, func(handoff.Receipt, error) { panic("boom") }
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := new(taskServer)
			client := server.client(t, func(c *handoff.ClientConfig) { c.Instrument = tc.instrument })
			receipt, err := client.Enqueue(t.Context(), job{})
			if tc.says == nil {
				assert.NoError(t, err)
				assert.Equal(t, receipt.Name, server.only(t).Name)
				return
			}
			assert.ErrorContains(t, err, append(tc.says, "handoff: enqueue job")...)
			assert.Equal(t, len(server.taken()), 0)
		})
	}
}

// pointed has its optional methods on the pointer, and is enqueued as a value.
type pointed struct{ N int } //nolint:recvcheck // the point

func (pointed) Kind() string { return "pointed" }
func (*pointed) Policy() handoff.Policy {
	return handoff.Policy{Queue: "pointed", TTL: time.Minute}
}
func (*pointed) IdempotencyKey() string       { return "k" }
func (*pointed) MarshalJSON() ([]byte, error) { return []byte(`"by the pointer"`), nil }
func (p *pointed) Validate() error {
	if p.N < 0 {
		return errTooYoung
	}
	return nil
}

func TestEnqueuePointerReceivers(t *testing.T) {
	t.Parallel()
	for name, payload := range map[string]func(int) handoff.Payload{
		"value":   func(n int) handoff.Payload { return pointed{n} },
		"pointer": func(n int) handoff.Payload { return &pointed{n} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := new(taskServer)
			client := server.client(t, nil)
			_, err := client.Enqueue(t.Context(), payload(-1))
			assert.ErrorIs(t, err, errTooYoung)
			receipt, err := client.Enqueue(t.Context(), payload(1))
			assert.NoError(t, err)
			task := server.only(t)
			assert.Equal(t, receipt.Queue, "pointed")
			assert.Equal(t, string(task.GetHttpRequest().GetBody()), `"by the pointer"`)
			assert.Equal(t, stampOf(t, task).Lifetime(), time.Minute)
			assert.Equal(t, len(stampOf(t, task).Key), 22)
		})
	}
}

type batchOfIDs []string

func (batchOfIDs) Kind() string { return "ids" }

// A nil slice is a valid payload.
func TestEnqueueNilSlice(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	_, err := server.client(t, nil).Enqueue(t.Context(), batchOfIDs(nil))
	assert.NoError(t, err)
	assert.Equal(t, string(server.only(t).GetHttpRequest().GetBody()), "null")
}

// A payload over the router's default MaxBody is refused before the call, even if
// it is small when compressed.
func TestEnqueueMaxBody(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	client := server.client(t, nil)
	_, err := client.Enqueue(t.Context(), blob{strings.Repeat("x", 1<<20)})
	assert.ErrorContains(t, err, "ClientConfig.MaxBody is 1048576", "RouterConfig.MaxBody")
	assert.Equal(t, len(server.taken()), 0)
	client = server.client(t, func(c *handoff.ClientConfig) { c.MaxBody = 2 << 20 })
	_, err = client.Enqueue(t.Context(), blob{strings.Repeat("x", 1<<20)})
	assert.NoError(t, err)
	_, err = handoff.NewClient(t.Context(), handoff.ClientConfig{Project: "p", Location: "l", Target: handoff.AppEngineTarget{}, MaxBody: -1})
	assert.ErrorContains(t, err, "ClientConfig.MaxBody is -1")
}

// bill is invoice under its old name.
type bill struct {
	ID string `json:"id"`
}

func (bill) Kind() string             { return "bill" }
func (b bill) IdempotencyKey() string { return b.ID }

type badAlias struct{}

func (badAlias) Kind() string      { return "good" }
func (badAlias) Aliases() []string { return []string{"Bad"} }

// With the same key, a renamed kind is the same work, in the fence and for the
// service. Another project, kind or request is other work.
func TestKeysNameTheWork(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	client := server.client(t, nil)
	first, err := client.Enqueue(t.Context(), bill{ID: "7"})
	assert.NoError(t, err)
	second, err := client.Enqueue(t.Context(), invoice{ID: "7"})
	assert.NoError(t, err)
	assert.Equal(t, second.Duplicate, true)
	assert.Equal(t, second.Name, first.Name)

	distinct := map[string]bool{stampOf(t, server.only(t)).Key: true}
	for _, r := range []handoff.Request{
		{URL: "https://a.example.com/in"}, {URL: "https://a.example.com/in?x=1"}, {URL: "https://b.example.com/in"},
		{URL: "https://a.example.com/in", Method: http.MethodPut},
	} {
		receipt, err := client.EnqueueRequest(t.Context(), r, handoff.Key("7"))
		assert.NoError(t, err)
		assert.Equal(t, receipt.Duplicate, false)
		second, err := client.EnqueueRequest(t.Context(), r, handoff.Key("7"))
		assert.NoError(t, err)
		assert.Equal(t, second.Duplicate, true)
	}
	for _, task := range server.taken() {
		distinct[stampOf(t, task).Key] = true
	}
	assert.Equal(t, len(distinct), 5)

	_, err = client.Enqueue(t.Context(), badAlias{})
	assert.ErrorContains(t, err, `kind "Bad"`)

	other := new(taskServer)
	_, err = other.client(t, func(c *handoff.ClientConfig) { c.Project = "other" }).Enqueue(t.Context(), bill{ID: "7"})
	assert.NoError(t, err)
	if distinct[stampOf(t, other.only(t)).Key] {
		t.Error("one key in two projects is one piece of work")
	}
}

// Each kind may have its own target.
func TestTargetsByKind(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	client := server.client(t, func(c *handoff.ClientConfig) {
		c.Targets = map[string]handoff.Target{
			"order": handoff.HTTPTarget{URL: "https://orders.example.com/tasks", ServiceAccount: "orders@p.iam.gserviceaccount.com"},
			"note":  handoff.AppEngineTarget{Service: "notes"},
		}
	})
	for _, p := range []handoff.Payload{order{ID: "1"}, note{}, job{}} {
		_, err := client.Enqueue(t.Context(), p)
		assert.NoError(t, err)
	}
	tasks := server.taken()
	assert.Equal(t, tasks[0].GetHttpRequest().GetUrl(), "https://orders.example.com/tasks/order")
	assert.Equal(t, tasks[0].GetHttpRequest().GetOidcToken().GetAudience(), "https://orders.example.com")
	assert.Equal(t, tasks[1].GetAppEngineHttpRequest().GetAppEngineRouting().GetService(), "notes")
	assert.Equal(t, tasks[2].GetHttpRequest().GetUrl(), "https://worker.example.com/tasks/job")

	_, err := handoff.NewClient(t.Context(), handoff.ClientConfig{
		Project: "p", Location: "l", Target: handoff.AppEngineTarget{},
		Targets: map[string]handoff.Target{"No Kind": handoff.HTTPTarget{URL: "https://h"}, "nil": nil},
	})
	assert.ErrorContains(t, err, `handoff: ClientConfig.Targets["No Kind"]`, "does not match", "ServiceAccount is empty", `Targets["nil"] is nil`)
	assert.Equal(t, errors.Is(err, handoff.ErrNotSent), false)
}

// Tokens over plain http are allowed only for development, in targets and requests.
func TestTokensNeedTLS(t *testing.T) {
	t.Parallel()
	const account = "a@p.iam.gserviceaccount.com"
	client := new(taskServer).client(t, nil)
	for host, fine := range map[string]bool{
		"localhost:8080": true, "worker": true, "worker.internal:80": true, "127.0.0.1:1": true, "[::1]:1": true, "10.0.0.7": true,
		"worker.example.com": false, "134744072": false, "8.8.8.8": false,
	} {
		made, err := handoff.NewClient(t.Context(), handoff.ClientConfig{
			Project: "p", Location: "l", Options: new(taskServer).serve(t), Target: handoff.HTTPTarget{URL: "http://" + host + "/tasks", ServiceAccount: account},
		})
		if err == nil {
			assert.NoError(t, made.Close())
		}
		_, rerr := client.EnqueueRequest(t.Context(), handoff.Request{URL: "http://" + host + "/in", ServiceAccount: account})
		if fine {
			assert.NoError(t, err)
			assert.NoError(t, rerr)
			continue
		}
		assert.ErrorContains(t, err, "ClientConfig.Target.URL", host, "https only")
		assert.ErrorContains(t, rerr, "Request.URL", host, "https only")
	}
	_, err := client.EnqueueRequest(t.Context(), handoff.Request{URL: "http://worker.example.com/in"})
	assert.NoError(t, err)
}
