package handoff_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/wire"
)

var errBoom = errors.New("boom")

// TestOutcomeOfWhatTheHandlerReturns is the table of what a handler returns, the
// status of the response, and whether the attempt counts.
func TestOutcomeOfWhatTheHandlerReturns(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		err     error
		status  int
		second  int // status of a second delivery
		attempt int // number of the attempt in the second delivery; 0 if the handler does not run
		letter  handoff.Reason
	}{
		{"nil", nil, 200, 208, 0, ""},
		{"drop", handoff.Drop(errBoom), 204, 208, 0, ""},
		{"permanent", handoff.Permanent(errBoom), 205, 208, 0, handoff.ReasonPermanent},
		{"permanent, wrapped", fmt.Errorf("while mailing: %w", handoff.Permanent(errBoom)), 205, 208, 0, handoff.ReasonPermanent},
		{"permanent of nothing", handoff.Permanent(nil), 205, 208, 0, handoff.ReasonPermanent},
		{"any error", errBoom, 500, 500, 2, ""},
		{"deadline", context.DeadlineExceeded, 500, 500, 2, ""},
		{"retry after", handoff.RetryAfter(errBoom, 1500*time.Millisecond), 503, 503, 2, ""},
		{"busy", fmt.Errorf("no room: %w", handoff.ErrBusy), 409, 409, 1, ""},
		{"snooze without a client", handoff.Snooze(time.Hour), 500, 500, 2, ""},
		{"retry in without a client", handoff.RetryIn(errBoom, time.Hour), 500, 500, 2, ""},
		{"busy for without a client", handoff.BusyFor(time.Hour), 409, 409, 1, ""},
		{"continue without a client", handoff.Continue(), 500, 500, 2, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newFixture(t, nil)
			last := 0
			handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
				last = handoff.InfoFromContext(ctx).Attempt
				return tt.err
			})
			assert.Status(t, b.send(t, typed("1", "x")), tt.status)
			assert.Equal(t, last, 1)
			last = 0
			assert.Status(t, b.send(t, typed("1", "x")), tt.second)
			assert.Equal(t, last, tt.attempt)
			if tt.letter == "" {
				b.noLetters(t)
				return
			}
			letter := b.onlyLetter(t)
			assert.Equal(t, letter.Reasons, []handoff.Reason{tt.letter})
			assert.Equal(t, string(letter.Payload), `{"text":"x"}`)
			assert.Equal(t, letter.Attempts, 1)
		})
	}
}

// TestRetryAfterIsInWholeSecondsRoundedUp: the header is sent only if the handler
// asks for it, because it slows the whole queue.
func TestRetryAfterIsInWholeSecondsRoundedUp(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"2": handoff.RetryAfter(errBoom, 1500*time.Millisecond),
		"":  errBoom,
	} {
		b := newFixture(t, nil)
		handoff.Handle(b.Router, func(context.Context, note) error { return err })
		rec := httptest.NewRecorder()
		b.ServeHTTP(rec, typed("1", "x").request())
		assert.Equal(t, rec.Header().Get("Retry-After"), want)
	}
}

// TestRefusals is the table of deliveries that end before a handler runs.
func TestRefusals(t *testing.T) {
	t.Parallel()
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write([]byte(strings.Repeat(" ", 4096)))
	_ = z.Close()

	with := func(name, value string) http.Header { return http.Header{name: {value}} }
	past := time.Now().Add(-time.Minute)
	tests := []struct {
		name   string
		alter  func(*task)
		method string
		status int
		letter handoff.Reason
	}{
		{"unknown kind", func(d *task) { d.kind = "nobody" }, "", 404, ""},
		{"unknown kind, expired", func(d *task) { d.kind = "nobody"; d.stamp.Expires = past }, "", 205, handoff.ReasonExpired},
		{"expired", func(d *task) { d.stamp.Expires = past }, "", 205, handoff.ReasonExpired},
		{"not JSON", func(d *task) { d.body = "{" }, "", 205, handoff.ReasonUndecodable},
		{"other JSON", func(d *task) { d.body = `{"text":7}` }, "", 205, handoff.ReasonUndecodable},
		{"null", func(d *task) { d.body = `null` }, "", 205, handoff.ReasonUndecodable},
		{"empty", func(d *task) { d.body = `` }, "", 205, handoff.ReasonUndecodable},
		{"invalid", func(d *task) { d.body = `{"text":"invalid"}` }, "", 205, handoff.ReasonInvalid},
		{"not gzip", func(d *task) { d.body = "\x1f\x8b"; d.header = with("Content-Encoding", "gzip") }, "", 205, handoff.ReasonUndecodable},
		{"too large", func(d *task) { d.body = strings.Repeat(" ", 2049) }, "", 413, ""},
		{"too large inflated", func(d *task) { d.body = zipped.String(); d.header = with("Content-Encoding", "gzip") }, "", 413, ""},
		{"no task name", func(d *task) { d.header = http.Header{"X-Cloudtasks-Taskname": nil} }, "", 400, ""},
		{"bad retry count", func(d *task) { d.header = with("X-Cloudtasks-Taskretrycount", "-1") }, "", 400, ""},
		{"bad expiry", func(d *task) { d.header = with("Handoff-Expires", "tomorrow") }, "", 400, ""},
		{"two queue names", func(d *task) { d.header = http.Header{"X-Cloudtasks-Queuename": {"a", "b"}} }, "", 400, ""},
		{"App Engine headers only", func(d *task) {
			d.header = http.Header{"X-Cloudtasks-Taskname": nil, "X-Appengine-Taskname": {"t"}, "X-Appengine-Queuename": {"q"}}
		}, "", 400, ""},
		{"GET", func(*task) {}, http.MethodGet, 400, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newFixture(t, func(c *handoff.RouterConfig) { c.MaxBody = 2048 })
			handoff.Handle(b.Router, func(context.Context, note) error {
				t.Error("the handler ran")
				return nil
			})
			d := typed("1", "x")
			tt.alter(&d)
			req := d.request()
			if tt.method != "" {
				req.Method = tt.method
			}
			rec := httptest.NewRecorder()
			b.ServeHTTP(rec, req)
			assert.Status(t, rec.Code, tt.status)
			if tt.letter == "" {
				b.noLetters(t)
				return
			}
			letter := b.onlyLetter(t)
			assert.Equal(t, letter.Reasons[0], tt.letter)
			assert.Equal(t, letter.Attempts, 0)
			assert.Status(t, b.send(t, typed("1", "x")), 208)
		})
	}
}

func TestEveryReasonOfADeathIsKept(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	handoff.Handle(b.Router, func(context.Context, note) error { return nil })
	d := typed("1", "x")
	d.body, d.stamp.Expires = "{", time.Now().Add(-time.Minute)
	assert.Status(t, b.send(t, d), 205)
	assert.Equal(t, b.onlyLetter(t).Reasons, []handoff.Reason{handoff.ReasonExpired, handoff.ReasonUndecodable})
}

func TestInfoTellsWhatTheHeadersSay(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	var got handoff.Info
	var payload any
	handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
		got, payload = handoff.InfoFromContext(ctx), handoff.PayloadFromContext(ctx)
		deadline, _ := ctx.Deadline()
		assert.Equal(t, deadline, got.Deadline)
		return nil
	})
	d := typed("abc", "hello")
	d.retries, d.stamp.Snoozes, d.stamp.Deadline = 4, 2, 20*time.Second
	start := time.Now()
	assert.Status(t, b.send(t, d), 200)
	assert.Equal(t, payload, any(note{Text: "hello"}))
	assert.Equal(t, []any{got.ID, got.Kind, got.Queue, got.Task}, []any{"abc", "note", "emails", "task-abc"})
	assert.Equal(t, []int{got.Attempt, got.MaxAttempts, got.Snoozes, got.RetryCount, got.PreviousResponse}, []int{1, 3, 2, 4, 500})
	assert.Equal(t, got.EnqueuedAt, d.stamp.Enqueued.Truncate(time.Millisecond).Round(0).Local())
	if got.FencingToken < start.UnixMicro() {
		t.Errorf("fencing token %d is before the claim", got.FencingToken)
	}
	// 20 s, minus the tenth that is reserved for settling.
	if left := got.Deadline.Sub(start); left < 17*time.Second || left > 19*time.Second {
		t.Errorf("deadline in %s, want about 18 s", left)
	}
	assert.Equal(t, handoff.InfoFromContext(t.Context()), handoff.Info{})
}

func TestMaxRunCutsTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, func(c *handoff.RouterConfig) { c.MaxRun = time.Minute })
		handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
			start := time.Now()
			<-ctx.Done()
			assert.Equal(t, time.Since(start), time.Minute)
			return ctx.Err()
		})
		assert.Status(t, b.send(t, typed("1", "x")), 500)
	})
}

func TestTheLastAttemptIsBuried(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		handler func() error
	}{
		{"error", func() error { return errBoom }},
		{"panic", func() error { panic("boom") }},
		{"throttled", func() error { return handoff.RetryAfter(errBoom, time.Second) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newFixture(t, nil)
			runs := 0
			handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
				runs++
				assert.Equal(t, handoff.InfoFromContext(ctx).LastAttempt(), runs == 3)
				return tt.handler()
			})
			for range 2 {
				if status := b.send(t, typed("1", "x")); status < 500 {
					t.Fatalf("got status %d, want a retry", status)
				}
			}
			assert.Status(t, b.send(t, typed("1", "x")), 205)
			letter := b.onlyLetter(t)
			assert.Equal(t, letter.Reasons, []handoff.Reason{handoff.ReasonExhausted})
			assert.Equal(t, letter.Attempts, 3)
			if !strings.Contains(letter.LastErr, "boom") {
				t.Errorf("last error is %q", letter.LastErr)
			}
			assert.Status(t, b.send(t, typed("1", "x")), 208)
			assert.Equal(t, runs, 3)
		})
	}
}

func TestAForeignTaskHasNoLimitUnlessTold(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int]int{0: 500, 2: 205} {
		b := newFixture(t, func(c *handoff.RouterConfig) { c.ForeignMaxAttempts = limit })
		handoff.Handle(b.Router, func(context.Context, note) error { return errBoom })
		for range 6 {
			b.send(t, foreign("f", "x"))
		}
		assert.Status(t, b.send(t, foreign("g", "x")), 500)
		assert.Status(t, b.send(t, foreign("g", "x")), want)
	}
}

func TestSimultaneousDeliveriesRunOnce(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]task{"typed": typed("1", "x"), "foreign": foreign("f", "x")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newFixture(t, nil)
			begun, finish := make(chan struct{}), make(chan struct{})
			handoff.Handle(b.Router, func(context.Context, note) error {
				close(begun) // panics if the handler runs twice
				<-finish
				return nil
			})
			first := make(chan int)
			go func() { first <- b.send(t, d) }()
			<-begun
			assert.Status(t, b.send(t, d), 409)
			close(finish)
			assert.Status(t, <-first, 200)
			assert.Status(t, b.send(t, d), 208)
		})
	}
}

// TestOneIDIsOnePieceOfWork: two tasks of one ambiguous create have two names but
// the same ID, and are one piece of work. So are tasks with two IDs but the same
// key.
func TestOneIDIsOnePieceOfWork(t *testing.T) {
	t.Parallel()
	renamed := typed("1", "x")
	renamed.name = "another-name"
	keyed, keyedAgain := typed("2", "x"), typed("3", "x")
	keyed.stamp.Key, keyedAgain.stamp.Key = "samekey", "samekey"
	for _, pair := range [][2]task{{typed("1", "x"), renamed}, {keyed, keyedAgain}} {
		b := newFixture(t, nil)
		runs := 0
		handoff.Handle(b.Router, func(context.Context, note) error { runs++; return nil })
		assert.Status(t, b.send(t, pair[0]), 200)
		assert.Status(t, b.send(t, pair[1]), 208)
		assert.Equal(t, runs, 1)
	}
}

func TestAnOlderGenerationIsADuplicate(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	var attempts []int
	handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
		attempts = append(attempts, handoff.InfoFromContext(ctx).Attempt)
		return errBoom
	})
	copied := typed("1", "x")
	copied.stamp.Generation = 1
	assert.Status(t, b.send(t, typed("1", "x")), 500)
	assert.Status(t, b.send(t, copied), 500)
	assert.Status(t, b.send(t, typed("1", "x")), 208)
	assert.Status(t, b.send(t, copied), 500)
	assert.Equal(t, attempts, []int{1, 1, 2})
}

func TestAPanicIsAFailure(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	handoff.Handle(b.Router, func(context.Context, note) error { panic("boom") })
	assert.Status(t, b.send(t, typed("1", "x")), 500)
	if log := b.log.String(); !strings.Contains(log, "panicked") || !strings.Contains(log, "delivery_test.go") {
		t.Errorf("the log does not show the panic and its stack: %s", log)
	}
}

// TestAnAbandonedGoroutineReleasesItsClaim: ErrAbortHandler is passed on to
// net/http, and Goexit cannot be stopped. Neither may leave the task claimed.
func TestAnAbandonedGoroutineReleasesItsClaim(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(){
		"abort":  func() { panic(http.ErrAbortHandler) },
		"goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newFixture(t, nil)
			runs := 0
			handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
				if runs++; runs == 1 {
					leave()
				}
				assert.Equal(t, handoff.InfoFromContext(ctx).Attempt, 2)
				return nil
			})
			var wg sync.WaitGroup
			wg.Go(func() {
				defer func() { _ = recover() }()
				b.ServeHTTP(httptest.NewRecorder(), typed("1", "x").request())
			})
			wg.Wait()
			assert.Status(t, b.send(t, typed("1", "x")), 200)
		})
	}
}

func TestRefusalsAreLoggedOnceASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, nil)
		unknown := typed("1", "secret text")
		unknown.kind = "nobody"
		for range 50 {
			b.send(t, unknown)
		}
		time.Sleep(time.Second) // virtual
		b.send(t, unknown)
		log := b.log.String()
		assert.Equal(t, strings.Count(log, "delivery refused"), 2)
		assert.Equal(t, strings.Contains(log, "unlogged=49"), true)
		assert.Equal(t, strings.Contains(log, "secret"), false)
	})
}

func TestAStampWithoutALimitTakesTheTypes(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
		assert.Equal(t, handoff.InfoFromContext(ctx).MaxAttempts, 5)
		return nil
	})
	d := typed("1", "x")
	d.stamp = wire.Stamp{ID: "1"}
	assert.Status(t, b.send(t, d), 200)
}

// bag is a payload with a map, whose keys come from the producer.
type bag struct {
	Name string         `json:"name"`
	Sums map[string]int `json:"sums"`
	Rows []struct {
		Count int `json:"count"`
	} `json:"rows"`
	Grid [2][]*struct {
		Sums map[string]int `json:"sums"`
	} `json:"grid"`
}

func (bag) Kind() string { return "bag" }

// An error names the fields that the type declares, but no keys of maps.
func TestUndecodableNamesDeclaredFieldsOnly(t *testing.T) {
	t.Parallel()
	for body, says := range map[string]string{
		`{"sums":{"S3CRET":"x"}}`:                 `field "sums" needs a int`,
		`{"rows":[{"count":"S3CRET"}]}`:           `field "rows.count" needs a int`,
		`{"name":7}`:                              `field "name" needs a string`,
		`{"grid":[[],[{"sums":{"S3CRET":"x"}}]]}`: `field "grid.sums" needs a int`,
		`["S3CRET"]`:                              `field "" needs a`,
		`{"sums":{"S3CRET":9999999999999999999}}`: `field "sums" needs a int`,
	} {
		b := newFixture(t, nil)
		handoff.Handle(b.Router, func(context.Context, bag) error { return nil })
		d := typed("1", "x")
		d.kind, d.body = "bag", body
		assert.Status(t, b.send(t, d), 205)
		letter := b.onlyLetter(t)
		if !strings.Contains(letter.LastErr, says) || strings.Contains(letter.LastErr+b.log.String(), "S3CRET") {
			t.Errorf("%s: the letter says %q, want %q", body, letter.LastErr, says)
		}
	}
}
