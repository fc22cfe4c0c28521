// Package endtoend_test sends tasks through all parts: the real client, the emulator,
// signed dispatches over HTTP, the router on echo, and Redis.
package endtoend_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/alicebob/miniredis/v2"
	"github.com/labstack/echo/v4"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/redistest"
	"github.com/brillconsulting/handoff/memstore"
	"github.com/brillconsulting/handoff/redisstore"
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

const account = "tasks@p.iam.gserviceaccount.com"

// order is the payload. Its policy retries quickly, because these tests run in real
// time.
type order struct {
	Number int `json:"number"`
}

func (order) Kind() string { return "order" }
func (order) Policy() handoff.Policy {
	return handoff.Policy{Queue: "orders", Retry: handoff.Retry{MaxAttempts: 4, MinBackoff: 50 * time.Millisecond}}
}

// fixture is one running setup.
type fixture struct {
	tasks   *emulator.Server
	client  *handoff.Client
	router  *handoff.Router
	letters handoff.DeadLetterStore

	mu   sync.Mutex
	seen []dispatch
}

// dispatch is one request to the worker and the status of its response.
type dispatch struct {
	at     time.Time
	header http.Header
	status int
}

type stores struct {
	fence   handoff.Store
	letters handoff.DeadLetterStore
}

// everyStore runs test with each store: in memory, on miniredis, and on a real
// redis-server if one is installed.
func everyStore(t *testing.T, test func(t *testing.T, open func(t *testing.T) stores)) {
	t.Helper()
	onRedis := func(addr string) func(t *testing.T) stores {
		return func(t *testing.T) stores {
			rdb := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
			t.Cleanup(func() { assert.NoError(t, rdb.Close()) })
			return stores{redisstore.New(rdb, nil), redisstore.NewDeadLetters(rdb, nil)}
		}
	}
	t.Run("memory", func(t *testing.T) {
		test(t, func(*testing.T) stores { return stores{memstore.New(), memstore.NewDeadLetters()} })
	})
	t.Run("miniredis", func(t *testing.T) { test(t, onRedis(miniredis.RunT(t).Addr())) })
	t.Run("redis", func(t *testing.T) { test(t, onRedis(redistest.Start(t))) })
}

// start runs a fixture over HTTP on loopback.
func start(t *testing.T, s stores, handle func(ctx context.Context, o order) error) *fixture {
	t.Helper()
	f := &fixture{letters: s.letters, tasks: emulator.RunT(t)}
	server := httptest.NewUnstartedServer(nil)
	url := "http://" + server.Listener.Addr().String()
	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{url}, Callers: []string{account}, Keys: handoff.StaticKeys(f.tasks.JWKS()),
	})
	assert.NoError(t, err)
	f.connect(t, s, verifier, url)
	handoff.Handle(f.router, handle)
	e := echo.New()
	f.router.Mount(e.Group("/tasks", f.record))
	server.Config.Handler = e
	server.Start()
	t.Cleanup(server.Close)
	return f
}

func (f *fixture) connect(t *testing.T, s stores, verifier handoff.Verifier, url string) {
	t.Helper()
	var err error
	f.client, err = handoff.NewClient(t.Context(), handoff.ClientConfig{
		Project: "p", Location: "l",
		Target:  handoff.HTTPTarget{URL: url + "/tasks", ServiceAccount: account},
		Options: f.tasks.ClientOptions(),
	})
	assert.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, f.client.Close()) })
	f.router, err = handoff.NewRouter(handoff.RouterConfig{
		Verifier: verifier, Store: s.fence, DeadLetters: s.letters, Client: f.client, Logger: slog.New(slog.DiscardHandler),
	})
	assert.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		assert.NoError(t, f.router.Shutdown(ctx))
	})
	f.createQueue(t)
}

func (f *fixture) createQueue(t *testing.T) {
	t.Helper()
	client := f.raw(t)
	_, err := client.CreateQueue(t.Context(), &cloudtaskspb.CreateQueueRequest{
		Parent: "projects/p/locations/l",
		Queue: &cloudtaskspb.Queue{
			Name:        "projects/p/locations/l/queues/orders",
			RetryConfig: &cloudtaskspb.RetryConfig{MinBackoff: durationpb.New(50 * time.Millisecond)},
		},
	})
	assert.NoError(t, err)
}

func (f *fixture) raw(t *testing.T) *cloudtasks.Client {
	t.Helper()
	client, err := cloudtasks.NewClient(t.Context(), f.tasks.ClientOptions()...)
	assert.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, client.Close()) })
	return client
}

// record is an echo middleware that records every request and its status.
func (f *fixture) record(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		d := dispatch{at: time.Now(), header: c.Request().Header.Clone()}
		err := next(c)
		d.status = c.Response().Status
		f.mu.Lock()
		defer f.mu.Unlock()
		f.seen = append(f.seen, d)
		return err
	}
}

// settle waits until no task is left and returns the statuses of all responses, in
// order.
func (f *fixture) settle(t *testing.T) []int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	assert.NoError(t, f.tasks.Wait(ctx))
	f.mu.Lock()
	defer f.mu.Unlock()
	statuses := make([]int, len(f.seen))
	for i, d := range f.seen {
		statuses[i] = d.status
	}
	return statuses
}

func (f *fixture) gone(t *testing.T, name string) {
	t.Helper()
	_, err := f.raw(t).GetTask(t.Context(), &cloudtaskspb.GetTaskRequest{Name: name})
	assert.Equal(t, status.Code(err), codes.NotFound)
}

func TestSuccessDeletesTheTask(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, open func(*testing.T) stores) {
		var got order
		var info handoff.Info
		f := start(t, open(t), func(ctx context.Context, o order) error {
			got, info = o, handoff.InfoFromContext(ctx)
			return nil
		})
		receipt, err := f.client.Enqueue(t.Context(), order{Number: 42})
		assert.NoError(t, err)
		assert.Equal(t, f.settle(t), []int{200})
		assert.Equal(t, got, order{Number: 42})
		assert.Equal(t, []any{info.ID, info.Queue, info.Attempt, info.Caller.Email}, []any{receipt.ID, "orders", 1, account})
		f.gone(t, receipt.Name)
	})
}

// TestAnErrorRetriesWithBackoffAndHeaders: retries come after 50, 100 and 200 ms
// (docs/cloud-tasks.md#7.2), with the headers of docs/cloud-tasks.md#9.4.
func TestAnErrorRetriesWithBackoffAndHeaders(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, open func(*testing.T) stores) {
		var attempts []int
		f := start(t, open(t), func(ctx context.Context, _ order) error {
			attempts = append(attempts, handoff.InfoFromContext(ctx).Attempt)
			if len(attempts) < 4 {
				return errors.New("boom")
			}
			return nil
		})
		_, err := f.client.Enqueue(t.Context(), order{})
		assert.NoError(t, err)
		assert.Equal(t, f.settle(t), []int{500, 500, 500, 200})
		assert.Equal(t, attempts, []int{1, 2, 3, 4})
		for i, d := range f.seen {
			retried := []string{fmt.Sprint(i), "500"}
			if i == 0 {
				retried[1] = ""
			}
			assert.Equal(t, []string{d.header.Get("X-CloudTasks-TaskRetryCount"), d.header.Get("X-CloudTasks-TaskPreviousResponse")}, retried)
			if i == 0 {
				continue
			}
			if waited, least := d.at.Sub(f.seen[i-1].at), 50*time.Millisecond<<(i-1); waited < least {
				t.Errorf("retry %d came after %s, the backoff is %s", i, waited, least)
			}
		}
	})
}

func TestPermanentStopsAndIsKept(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, open func(*testing.T) stores) {
		f := start(t, open(t), func(context.Context, order) error { return handoff.Permanent(errors.New("boom")) })
		receipt, err := f.client.Enqueue(t.Context(), order{Number: 7})
		assert.NoError(t, err)
		assert.Equal(t, f.settle(t), []int{205})
		f.gone(t, receipt.Name)
		page, err := f.letters.List(t.Context(), handoff.DeadLetterQuery{})
		assert.NoError(t, err)
		assert.Equal(t, len(page.Letters), 1)
		assert.Equal(t, string(page.Letters[0].Payload), `{"number":7}`)
	})
}

func TestAPanicRetries(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, open func(*testing.T) stores) {
		runs := 0
		f := start(t, open(t), func(context.Context, order) error {
			if runs++; runs == 1 {
				panic("boom")
			}
			return nil
		})
		_, err := f.client.Enqueue(t.Context(), order{})
		assert.NoError(t, err)
		assert.Equal(t, f.settle(t), []int{500, 200})
	})
}

// TestTwoDeliveriesOfOneTask: RunTask dispatches a task whose attempt is still running
// (docs/cloud-tasks.md#3.3), and the handler runs only once.
func TestTwoDeliveriesOfOneTask(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, open func(*testing.T) stores) {
		begun, finish := make(chan struct{}), make(chan struct{})
		f := start(t, open(t), func(context.Context, order) error {
			close(begun) // panics if it runs twice
			<-finish
			return nil
		})
		receipt, err := f.client.Enqueue(t.Context(), order{})
		assert.NoError(t, err)
		<-begun
		_, err = f.raw(t).RunTask(t.Context(), &cloudtaskspb.RunTaskRequest{Name: receipt.Name})
		assert.NoError(t, err)
		assert.Eventually(t, 10*time.Second, func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			return len(f.seen) > 0
		}, "the second delivery")
		close(finish)
		statuses := f.settle(t)
		assert.Equal(t, statuses[0], 409)
		assert.Equal(t, slices.Contains(statuses, 200), true)
	})
}

// TestADeliveryAfterCompletion: the worker's response is lost, so Cloud Tasks
// dispatches the task again.
func TestADeliveryAfterCompletion(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, open func(*testing.T) stores) {
		s := open(t)
		runs := 0
		var again *http.Request
		f := start(t, s, func(context.Context, order) error { runs++; return nil })
		_, err := f.client.Enqueue(t.Context(), order{})
		assert.NoError(t, err)
		assert.Equal(t, f.settle(t), []int{200})

		again = httptest.NewRequest(http.MethodPost, "/tasks/order", http.NoBody)
		again.Header = f.seen[0].header
		rec := httptest.NewRecorder()
		f.router.ServeHTTP(rec, again)
		assert.Status(t, rec.Code, 208)
		assert.Equal(t, runs, 1)
	})
}

func TestAnUnknownKindIsRetried(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, open func(*testing.T) stores) {
		f := start(t, open(t), func(context.Context, order) error { return nil })
		receipt, err := f.client.Enqueue(t.Context(), stranger{})
		assert.NoError(t, err)
		assert.Eventually(t, 10*time.Second, func() bool { return len(f.tasks.Dispatches(receipt.Name)) >= 2 }, "a retry")
		assert.Equal(t, f.tasks.Dispatches(receipt.Name)[0].Status, 404)
		assert.NoError(t, f.raw(t).DeleteTask(t.Context(), &cloudtaskspb.DeleteTaskRequest{Name: receipt.Name}))
		f.settle(t)
	})
}

type stranger struct{ order }

func (stranger) Kind() string { return "stranger" }

func TestAnUndecodableBodyNeverReachesTheHandler(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, open func(*testing.T) stores) {
		f := start(t, open(t), func(context.Context, order) error {
			t.Error("the handler ran")
			return nil
		})
		_, err := f.client.Enqueue(t.Context(), mistyped{Number: "seven"})
		assert.NoError(t, err)
		assert.Equal(t, f.settle(t), []int{205})
	})
}

type mistyped struct {
	Number string `json:"number"`
}

func (mistyped) Kind() string           { return "order" }
func (mistyped) Policy() handoff.Policy { return order{}.Policy() }

// TestSnoozeRunsLaterAsTheSameWork: a snooze makes a second task, with the same ID.
func TestSnoozeRunsLaterAsTheSameWork(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, open func(*testing.T) stores) {
		var infos []handoff.Info
		f := start(t, open(t), func(ctx context.Context, _ order) error {
			infos = append(infos, handoff.InfoFromContext(ctx))
			if len(infos) == 1 {
				return handoff.Snooze(time.Second)
			}
			return nil
		})
		receipt, err := f.client.Enqueue(t.Context(), order{})
		assert.NoError(t, err)
		assert.Equal(t, f.settle(t), []int{202, 200})
		assert.Equal(t, []string{infos[0].ID, infos[1].ID}, []string{receipt.ID, receipt.ID})
		assert.Equal(t, []int{infos[0].Snoozes, infos[1].Snoozes, infos[1].Attempt}, []int{0, 1, 1})
		if infos[1].FencingToken <= infos[0].FencingToken {
			t.Errorf("fencing tokens %d, %d do not grow", infos[0].FencingToken, infos[1].FencingToken)
		}
	})
}

// TestGoesOnLater: attempts go on across the copies of RetryIn, are given back by
// BusyFor, and begin again with work that continues, which keeps its memo.
func TestGoesOnLater(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for name, row := range map[string]struct {
		ends     []error // of the runs, one after the other
		statuses []int
		attempts []int
	}{
		"retry in":          {[]error{boom, handoff.RetryIn(boom, time.Second), handoff.RetryIn(boom, time.Second), handoff.RetryIn(boom, time.Second)}, []int{500, 202, 202, 205}, []int{1, 2, 3, 4}},
		"busy for":          {[]error{handoff.BusyFor(time.Second), boom, handoff.BusyFor(time.Second), nil}, []int{202, 500, 202, 200}, []int{1, 1, 2, 2}},
		"continue":          {[]error{boom, handoff.Continue(), handoff.Continue(), nil}, []int{500, 202, 202, 200}, []int{1, 2, 1, 1}},
		"one after another": {[]error{handoff.RetryIn(boom, time.Second), handoff.Continue(), handoff.BusyFor(time.Second), handoff.RetryIn(boom, time.Second), nil}, []int{202, 202, 202, 202, 200}, []int{1, 2, 1, 1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everyStore(t, func(t *testing.T, open func(*testing.T) stores) {
				ids := map[string]bool{}
				var attempts []int
				var memos []string
				f := start(t, open(t), func(ctx context.Context, _ order) error {
					info := handoff.InfoFromContext(ctx)
					held, _ := handoff.HeldFromContext(ctx)
					ids[info.ID], attempts, memos = true, append(attempts, info.Attempt), append(memos, string(held.Memo()))
					if err := held.Keep(ctx, fmt.Appendf(nil, "run %d", len(attempts))); err != nil {
						return err
					}
					return row.ends[len(attempts)-1]
				})
				_, err := f.client.Enqueue(t.Context(), order{})
				assert.NoError(t, err)
				statuses := slices.DeleteFunc(f.settle(t), func(status int) bool { return status == 409 })          // a copy may arrive before its original ended
				assert.Equal(t, slices.Sorted(slices.Values(statuses)), slices.Sorted(slices.Values(row.statuses))) // the copy may end before its original is seen to
				assert.Equal(t, attempts, row.attempts)
				assert.Equal(t, len(ids), 1)
				for i, memo := range memos[1:] {
					assert.Equal(t, memo, fmt.Sprintf("run %d", i+1))
				}
			})
		})
	}
}

func TestRedriveRunsADeadLetterAgainOnce(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, open func(*testing.T) stores) {
		var mu sync.Mutex
		runs := 0
		f := start(t, open(t), func(ctx context.Context, o order) error {
			mu.Lock()
			defer mu.Unlock()
			if runs++; runs == 1 {
				return handoff.Permanent(errors.New("boom"))
			}
			assert.Equal(t, o, order{Number: 9})
			assert.Equal(t, handoff.InfoFromContext(ctx).Attempt, 1)
			return nil
		})
		_, err := f.client.Enqueue(t.Context(), order{Number: 9}, handoff.Key("order-9"))
		assert.NoError(t, err)
		assert.Equal(t, f.settle(t), []int{205})
		page, err := f.letters.List(t.Context(), handoff.DeadLetterQuery{})
		assert.NoError(t, err)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if _, err := f.client.Redrive(t.Context(), f.letters, page.Letters[0].ID); err != nil && !errors.Is(err, handoff.ErrNoDeadLetter) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		assert.Equal(t, f.settle(t), []int{205, 200})
		page, err = f.letters.List(t.Context(), handoff.DeadLetterQuery{})
		assert.NoError(t, err)
		assert.Equal(t, len(page.Letters), 0)
	})
}

// TestADayInABubble runs all parts in virtual time, with a task that is due in 24 h,
// fails three times and then succeeds.
func TestADayInABubble(t *testing.T) {
	t.Parallel()
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{tasks: emulator.RunT(t)}
		url := "https://worker.example.com"
		verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
			Audiences: []string{url}, Callers: []string{account}, Keys: handoff.StaticKeys(f.tasks.JWKS()),
		})
		assert.NoError(t, err)
		f.connect(t, stores{memstore.New(), memstore.NewDeadLetters()}, verifier, url)
		start := time.Now()
		var ran []time.Duration
		handoff.Handle(f.router, func(context.Context, order) error {
			ran = append(ran, time.Since(start))
			if len(ran) <= 3 {
				return errors.New("boom")
			}
			return nil
		})
		e := echo.New()
		f.router.Mount(e.Group("/tasks", f.record))
		f.tasks.SetHandler(e)
		_, err = f.client.Enqueue(t.Context(), order{}, handoff.In(24*time.Hour))
		assert.NoError(t, err)
		assert.NoError(t, f.tasks.Wait(t.Context()))
		day := 24 * time.Hour
		want := []time.Duration{day, day + 50*time.Millisecond, day + 150*time.Millisecond, day + 350*time.Millisecond}
		for i := range want {
			if late := ran[i] - want[i]; late < 0 || late > time.Second {
				t.Errorf("attempt %d ran at %s, want %s", i+1, ran[i], want[i])
			}
		}
	})
	t.Logf("a day and three failures took %s", time.Since(began))
}
