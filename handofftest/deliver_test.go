package handofftest_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/handofftest"
	"github.com/brillconsulting/handoff/internal/assert"
)

func TestDeliverSaysHowItEnded(t *testing.T) {
	t.Parallel()
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			router := routerFor(t, func(context.Context, WelcomeEmail) error { return end.err })
			got := handofftest.Deliver(t, router, WelcomeEmail{UserID: "42"})
			assert.Equal(t, got.Outcome, end.outcome)
			assert.Equal(t, got.Status, end.outcome.Status())
			assert.Equal(t, got.Retry, end.retry)
			assert.Equal(t, got.Settled, end.settled)
		})
	}
}

func TestDeliverBeforeTheHandler(t *testing.T) {
	t.Parallel()
	never := func(context.Context, WelcomeEmail) error { return errors.New("it ran") }
	refusing := func(c *handoff.RouterConfig) { c.DeadLetters = refusingLetters{c.DeadLetters} }
	for name, row := range map[string]struct {
		change  func(*handoff.RouterConfig)
		payload handoff.Payload
		opts    []handofftest.DeliverOption
		outcome handoff.Outcome
		reason  handoff.Reason
		settled handofftest.Settled
	}{
		"caller":           {nil, WelcomeEmail{}, []handofftest.DeliverOption{handofftest.Caller("eve@evil.iam.gserviceaccount.com")}, handoff.Forbidden, handoff.ReasonCaller, handofftest.NotClaimed},
		"expired":          {nil, WelcomeEmail{}, []handofftest.DeliverOption{handofftest.Expired()}, handoff.Dead, handoff.ReasonExpired, handofftest.Buried},
		"refused letter":   {refusing, WelcomeEmail{}, []handofftest.DeliverOption{handofftest.Expired()}, handoff.Unavailable, handoff.ReasonDeadLetterStore, handofftest.Uncounted},
		"no such kind":     {nil, Receipt{}, nil, handoff.UnknownKind, "unknown-kind", handofftest.NotClaimed},
		"another shape":    {nil, misshapen{UserID: 42}, nil, handoff.Dead, handoff.ReasonUndecodable, handofftest.Buried},
		"nowhere to bury":  {func(c *handoff.RouterConfig) { c.DeadLetters = nil }, misshapen{UserID: 42}, nil, handoff.Failed, handoff.ReasonUndecodable, handofftest.Uncounted},
		"store is refused": {func(c *handoff.RouterConfig) { c.Store = deadStore{c.Store} }, WelcomeEmail{}, nil, handoff.Unavailable, handoff.ReasonStore, handofftest.NotClaimed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			router := routerFor(t, never, func(c *handoff.RouterConfig) {
				if row.change != nil {
					row.change(c)
				}
			})
			got := handofftest.Deliver(t, router, row.payload, row.opts...)
			assert.Equal(t, got.Outcome, row.outcome)
			assert.Equal(t, got.Reason, row.reason)
			assert.Equal(t, got.Settled, row.settled)
			assert.Equal(t, got.Retry, !row.outcome.Final())
			assert.Equal(t, got.Started.IsZero(), true)
		})
	}
}

type misshapen struct {
	UserID int `json:"user_id"`
}

func (misshapen) Kind() string { return WelcomeEmail{}.Kind() }

type refusingLetters struct{ handoff.DeadLetterStore }

func (refusingLetters) Put(context.Context, handoff.DeadLetter) error { return errors.New("full") }

type deadStore struct{ handoff.Store }

func (deadStore) Claim(context.Context, handoff.Lease) (handoff.Claim, error) {
	return handoff.Claim{}, errors.New("gone")
}

func TestDeliverHeaders(t *testing.T) {
	t.Parallel()
	due := time.Date(2031, 1, 2, 3, 4, 5, 6000, time.UTC)
	var got handoff.Info
	router := routerFor(t, func(ctx context.Context, _ WelcomeEmail) error {
		got = handoff.InfoFromContext(ctx)
		return errors.New("boom")
	})
	deliver := func(opts ...handofftest.DeliverOption) handofftest.Result {
		return handofftest.Deliver(t, router, WelcomeEmail{UserID: "42"}, opts...)
	}

	deliver()
	assert.Equal(t, []any{got.Attempt, got.RetryCount, got.PreviousResponse, got.Caller.Email, got.Queue},
		[]any{1, 0, 0, handofftest.Account, handofftest.DefaultQueue})

	result := deliver(handofftest.Attempt(3))
	assert.Equal(t, []int{got.Attempt, got.RetryCount, got.PreviousResponse, len(result.Others)}, []int{3, 2, 500, 2})
	assert.Equal(t, result.Others[1].Info.Attempt, 2)

	deliver(handofftest.PreviousResponse(503))
	assert.Equal(t, []int{got.Attempt, got.RetryCount, got.PreviousResponse}, []int{1, 1, 503})

	deliver(handofftest.ETA(due))
	assert.Equal(t, got.ScheduledAt.UTC(), due)

	before := time.Now()
	deliver(handofftest.With(handoff.In(time.Hour), handoff.OnQueue("other")))
	assert.Equal(t, got.ScheduledAt.Sub(before).Round(time.Minute), time.Hour)
	assert.Equal(t, got.Queue, "other")

	last := deliver(handofftest.Attempt(5))
	assert.Equal(t, last.Outcome, handoff.Dead)
	assert.Equal(t, last.Reason, handoff.ReasonExhausted)
}

func TestDeliverTwiceRunsOnce(t *testing.T) {
	t.Parallel()
	runs := 0 // unlocked, so the race detector reports two handlers at once
	router := routerFor(t, func(context.Context, WelcomeEmail) error { runs++; return nil })
	got := handofftest.Deliver(t, router, WelcomeEmail{}, handofftest.Twice())
	assert.Equal(t, got.Outcome, handoff.Done)
	other := got.Others[0].Outcome
	assert.Equal(t, other == handoff.Busy || other == handoff.Duplicate, true)
	assert.Equal(t, runs, 1)
}

func TestDeliverAgainIsADuplicate(t *testing.T) {
	t.Parallel()
	router := routerFor(t, func(context.Context, WelcomeEmail) error { return nil })
	got := handofftest.Deliver(t, router, WelcomeEmail{}, handofftest.Again())
	assert.Equal(t, []handoff.Outcome{got.Others[0].Outcome, got.Outcome}, []handoff.Outcome{handoff.Done, handoff.Duplicate})
	assert.Equal(t, got.Info.RetryCount, 1)
}

// A second task with the same key is the same piece of work.
func TestDeliverWithAKey(t *testing.T) {
	t.Parallel()
	router := routerFor(t, func(context.Context, WelcomeEmail) error { return nil })
	once := handofftest.With(handoff.Key("user-42"))
	assert.Equal(t, handofftest.Deliver(t, router, WelcomeEmail{}, once).Outcome, handoff.Done)
	assert.Equal(t, handofftest.Deliver(t, router, WelcomeEmail{}, once).Outcome, handoff.Duplicate)
}

// A handler that aborts the connection sends no response, and is retried.
func TestDeliverAborted(t *testing.T) {
	t.Parallel()
	router := routerFor(t, func(context.Context, WelcomeEmail) error { panic(http.ErrAbortHandler) })
	got := handofftest.Deliver(t, router, WelcomeEmail{})
	assert.Equal(t, []any{got.Outcome, got.Retry, got.Settled}, []any{handoff.Failed, true, handofftest.Counted})
}

func TestDeliverInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		router := routerFor(t, func(ctx context.Context, _ WelcomeEmail) error {
			<-ctx.Done() // at the deadline
			return ctx.Err()
		})
		begin := time.Now()
		got := handofftest.Deliver(t, router, WelcomeEmail{}, handofftest.With(handoff.Deadline(time.Minute)))
		assert.Equal(t, got.Outcome, handoff.Failed)
		assert.Equal(t, time.Since(begin), 55*time.Second) // the last 5 s of the minute are kept for settling
	})
}

func TestDeliverFailures(t *testing.T) {
	t.Parallel()
	srv := emulator.RunT(t)
	assert.NoError(t, srv.RotateKey())
	verifier := func(config handoff.OIDCConfig) handoff.Verifier {
		v, err := handoff.NewOIDC(config)
		assert.NoError(t, err)
		return v
	}
	ours, audience := []string{handofftest.Account}, []string{handofftest.Audience}
	others := verifier(handoff.OIDCConfig{Audiences: []string{"https://api.example.com"}, Callers: ours, Keys: handoff.StaticKeys(srv.JWKS())})
	callers := verifier(handoff.OIDCConfig{Audiences: audience, Callers: []string{"ann@example.com"}, Keys: handoff.StaticKeys(srv.JWKS())})
	unreachable := verifier(handoff.OIDCConfig{Audiences: audience, Callers: ours, Keys: handoff.RemoteKeys("http://127.0.0.1:1/certs")})
	appEngine, err := handoff.NewAppEngine(handoff.AppEngineConfig{DangerouslyAssumeAppEngine: true})
	assert.NoError(t, err)
	const field = "build it with RouterConfig.Verifier: handofftest.Verifier(t)"
	for name, row := range map[string]struct {
		verifier handoff.Verifier
		payload  handoff.Payload
		opts     []handofftest.DeliverOption
		want     []string
	}{
		"another audience":  {others, WelcomeEmail{}, nil, []string{field, "unauthenticated", "audience"}},
		"another caller":    {callers, WelcomeEmail{}, nil, []string{field, "forbidden", "not on the list"}},
		"app engine":        {appEngine, WelcomeEmail{}, nil, []string{field, "X-AppEngine-QueueName"}},
		"keys out of reach": {unreachable, WelcomeEmail{}, nil, []string{field, "unavailable"}},
		"unavailable":       {unavailable{}, WelcomeEmail{}, nil, nil}, // the token was not judged, so Deliver returns a result
		"attempt 0":         {nil, WelcomeEmail{}, []handofftest.DeliverOption{handofftest.Attempt(0)}, []string{"Attempt(0)"}},
		"attempts end":      {nil, WelcomeEmail{}, []handofftest.DeliverOption{handofftest.Attempt(7)}, []string{"attempt 5 of 7 ended the task: dead (205)"}},
		"no ttl":            {nil, WelcomeEmail{}, []handofftest.DeliverOption{handofftest.Expired(), handofftest.With(handoff.TTL(handoff.NoTTL))}, []string{"has no TTL"}},
		"cannot be created": {nil, WelcomeEmail{}, []handofftest.DeliverOption{handofftest.With(handoff.Key(""))}, []string{"handofftest: handoff: ", "Key is empty"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := failure(t, func(tb testing.TB) {
				router := routerFor(tb, func(context.Context, WelcomeEmail) error { return errors.New("boom") }, func(c *handoff.RouterConfig) {
					if row.verifier != nil {
						c.Verifier = row.verifier
					}
				})
				handofftest.Deliver(tb, router, row.payload, row.opts...)
			})
			if (got == "") != (row.want == nil) {
				t.Fatalf("it failed with %q, want %q", got, row.want)
			}
			for _, want := range row.want {
				if !strings.Contains(got, want) {
					t.Errorf("it failed with %q, want %q in it", got, want)
				}
			}
		})
	}
}

type unavailable struct{}

func (unavailable) Verify(*http.Request) (handoff.Caller, error) {
	return handoff.Caller{}, handoff.ErrUnavailable
}

// Deliver accepts a router that allows unauthenticated deliveries.
func TestDeliverToARouterWithoutVerifier(t *testing.T) {
	t.Parallel()
	router := routerFor(t, func(context.Context, WelcomeEmail) error { return nil }, func(c *handoff.RouterConfig) {
		c.Verifier, c.DangerouslyAllowUnauthenticated = nil, true
	})
	assert.Equal(t, handofftest.Deliver(t, router, WelcomeEmail{}).Outcome, handoff.Done)
}
