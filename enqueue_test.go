package handoff_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
)

type job struct {
	N int `json:"n"`
}

func (job) Kind() string { return "job" }

// order is a payload with an IdempotencyKey.
type order struct {
	ID string `json:"id"`
}

func (order) Kind() string             { return "order" }
func (o order) IdempotencyKey() string { return o.ID }
func (order) Policy() handoff.Policy {
	return handoff.Policy{
		Queue:    "orders",
		TTL:      time.Hour,
		Deadline: time.Minute,
		Retry:    handoff.Retry{MaxAttempts: 3, MinBackoff: 2 * time.Second, MaxBackoff: time.Minute, MaxDoublings: handoff.NoDoublings},
	}
}

// millis returns one of the times in the stamp.
func millis(t *testing.T, header map[string]string, name string) time.Time {
	t.Helper()
	n, err := strconv.ParseInt(header[name], 10, 64)
	assert.NoError(t, err)
	return time.UnixMilli(n)
}

func TestEnqueueBuildsTheTask(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	client := server.client(t, nil)
	before := time.Now().Truncate(time.Millisecond)
	receipt, err := client.Enqueue(t.Context(), job{N: 7})
	assert.NoError(t, err)

	task := server.only(t)
	r := task.GetHttpRequest()
	assert.Equal(t, r.GetUrl(), "https://worker.example.com/tasks/job")
	assert.Equal(t, r.GetHttpMethod(), cloudtaskspb.HttpMethod_POST)
	assert.Equal(t, string(r.GetBody()), `{"n":7}`)
	assert.Equal(t, r.GetOidcToken().GetServiceAccountEmail(), "caller@p.iam.gserviceaccount.com")
	assert.Equal(t, r.GetOidcToken().GetAudience(), "https://worker.example.com")
	header := r.GetHeaders()
	assert.Equal(t, header["Content-Type"], "application/json")
	assert.Equal(t, header["Handoff-Id"], receipt.ID)
	assert.Equal(t, header["Handoff-Max-Attempts"], "5")
	assert.Equal(t, header["Handoff-Version"], "1")
	assert.Equal(t, header["Handoff-Kind"], "job")
	assert.Equal(t, header["Handoff-Target"], "https://worker.example.com/tasks")
	assert.Equal(t, header["Handoff-Backoff"], "1 3600 16")
	if len(header) != 9 {
		t.Errorf("headers: %v", header)
	}
	enqueued := millis(t, header, "Handoff-Enqueued")
	if enqueued.Before(before) || enqueued.After(time.Now()) {
		t.Errorf("enqueued at %s, called at %s", enqueued, before)
	}
	assert.Equal(t, millis(t, header, "Handoff-Expires").Sub(enqueued), 24*time.Hour)

	// Only the backoff: the router counts attempts, not the service.
	assert.Equal(t, task.GetRetryConfig().GetMaxAttempts(), -1)
	assert.Equal(t, task.GetRetryConfig().GetMaxRetryDuration().AsDuration(), 0)
	assert.Equal(t, task.GetRetryConfig().GetMinBackoff().AsDuration(), time.Second)
	assert.Equal(t, task.GetRetryConfig().GetMaxBackoff().AsDuration(), time.Hour)
	assert.Equal(t, task.GetRetryConfig().GetMaxDoublings(), 16)
	if task.ScheduleTime != nil || task.DispatchDeadline != nil {
		t.Errorf("schedule time %v and deadline %v, want the service's own", task.ScheduleTime, task.DispatchDeadline)
	}
	assert.Equal(t, receipt.Name, "projects/p/locations/l/queues/q/tasks/00000000000000000001")
	assert.Equal(t, receipt.Queue, "q")
	assert.Equal(t, receipt.Duplicate, false)
}

func TestEnqueueOptionsOverTypeOverClient(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	client := server.client(t, func(c *handoff.ClientConfig) {
		c.Policy = handoff.Policy{Queue: "default", TTL: time.Minute, Retry: handoff.Retry{MaxAttempts: 9, MaxBackoff: 2 * time.Minute}}
	})
	at := time.Now().Add(48 * time.Hour).Truncate(time.Microsecond)
	_, err := client.Enqueue(t.Context(), order{ID: "1"}, handoff.At(at), handoff.TTL(handoff.NoTTL), handoff.Deadline(30*time.Second),
		handoff.Header("x-tenant", "acme"))
	assert.NoError(t, err)
	_, err = client.Enqueue(t.Context(), job{}, handoff.OnQueue("other"), handoff.In(time.Hour))
	assert.NoError(t, err)
	_, err = client.Enqueue(t.Context(), order{ID: "2"})
	assert.NoError(t, err)

	tasks := server.taken()
	assert.Equal(t, tasks[2].GetDispatchDeadline().AsDuration(), time.Minute)
	assert.Equal(t, tasks[2].GetHttpRequest().GetHeaders()["Handoff-Deadline"], "60000")
	first, second := tasks[0], tasks[1]
	assert.Equal(t, first.GetScheduleTime().AsTime().UnixNano(), at.UnixNano())
	assert.Equal(t, first.GetDispatchDeadline().AsDuration(), 30*time.Second)
	header := first.GetHttpRequest().GetHeaders()
	assert.Equal(t, header["X-Tenant"], "acme")
	assert.Equal(t, header["Handoff-Deadline"], "30000")
	assert.Equal(t, header["Handoff-Max-Attempts"], "3")
	assert.Equal(t, header["Handoff-Scheduled"], strconv.FormatInt(at.UnixMilli(), 10))
	if _, ok := header["Handoff-Expires"]; ok {
		t.Error("a task without a TTL is stamped with an expiry")
	}
	assert.Equal(t, first.GetRetryConfig().GetMaxDoublings(), 0)
	assert.Equal(t, first.GetRetryConfig().GetMaxBackoff().AsDuration(), time.Minute)
	if !strings.HasPrefix(first.Name, "projects/p/locations/l/queues/orders/tasks/") {
		t.Errorf("name %s", first.Name)
	}

	header = second.GetHttpRequest().GetHeaders()
	assert.Equal(t, header["Handoff-Max-Attempts"], "9")
	assert.Equal(t, millis(t, header, "Handoff-Expires").Sub(millis(t, header, "Handoff-Scheduled")), time.Minute)
	assert.Equal(t, second.GetRetryConfig().GetMaxBackoff().AsDuration(), 2*time.Minute)
	if !strings.HasPrefix(second.Name, "projects/p/locations/l/queues/other/tasks/") {
		t.Errorf("name %s", second.Name)
	}
}

func TestEnqueueAppEngine(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	client := server.client(t, func(c *handoff.ClientConfig) {
		c.Target = handoff.AppEngineTarget{Service: "worker", Version: "v2", Instance: "3", Path: "/tasks/"}
	})
	_, err := client.Enqueue(t.Context(), job{N: 1}, handoff.Deadline(20*time.Hour))
	assert.NoError(t, err)
	r := server.only(t).GetAppEngineHttpRequest()
	assert.Equal(t, r.GetRelativeUri(), "/tasks/job")
	assert.Equal(t, r.GetHttpMethod(), cloudtaskspb.HttpMethod_POST)
	assert.Equal(t, r.GetAppEngineRouting().GetService(), "worker")
	assert.Equal(t, r.GetAppEngineRouting().GetVersion(), "v2")
	assert.Equal(t, r.GetAppEngineRouting().GetInstance(), "3")
	assert.Equal(t, server.only(t).GetDispatchDeadline().AsDuration(), 20*time.Hour)
}

func TestEnqueueKeyed(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	client := server.client(t, nil)
	ctx := t.Context()
	first, err := client.Enqueue(ctx, order{ID: "42"})
	assert.NoError(t, err)
	second, err := client.Enqueue(ctx, order{ID: "42"})
	assert.NoError(t, err)
	assert.Equal(t, second.Duplicate, true)
	assert.Equal(t, second.Name, first.Name)
	assert.Equal(t, second.ID, "")

	task := server.only(t)
	if strings.Contains(task.String(), "42\"") && strings.Contains(task.Name, "42") {
		t.Errorf("the key is on the wire: %s", task.Name)
	}
	key := task.GetHttpRequest().GetHeaders()["Handoff-Key"]
	assert.Equal(t, len(key), 22)

	// The same key of another kind is other work, and so is another key.
	for _, p := range []struct {
		payload handoff.Payload
		opts    []handoff.Option
	}{{order{ID: "43"}, nil}, {job{}, []handoff.Option{handoff.Key("42"), handoff.OnQueue("orders")}}} {
		receipt, err := client.Enqueue(ctx, p.payload, p.opts...)
		assert.NoError(t, err)
		assert.Equal(t, receipt.Duplicate, false)
	}
	keys := make(map[string]bool)
	for _, task := range server.taken() {
		keys[task.GetHttpRequest().GetHeaders()["Handoff-Key"]] = true
	}
	assert.Equal(t, len(keys), 3)
}

func TestEnqueueNamed(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	client := server.client(t, nil)
	for _, duplicate := range []bool{false, true} {
		receipt, err := client.Enqueue(t.Context(), job{}, handoff.Name("process-user-123"))
		assert.NoError(t, err)
		assert.Equal(t, receipt.Name, "projects/p/locations/l/queues/q/tasks/process-user-123")
		assert.Equal(t, receipt.Duplicate, duplicate)
	}
	if _, ok := server.only(t).GetHttpRequest().GetHeaders()["Handoff-Key"]; ok {
		t.Error("a name became a fence key")
	}
}

func TestEnqueueEvery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := new(taskServer)
		client := server.client(t, nil)
		midnight := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // when a bubble begins
		enqueue := func(key string, opts ...handoff.Option) bool {
			receipt, err := client.Enqueue(t.Context(), job{}, append(opts, handoff.Key(key), handoff.Every(time.Hour))...)
			assert.NoError(t, err)
			return receipt.Duplicate
		}
		assert.Equal(t, enqueue("a"), false)
		assert.Equal(t, enqueue("b"), false)
		time.Sleep(time.Hour - time.Nanosecond - time.Since(midnight))
		assert.Equal(t, enqueue("a"), true)
		time.Sleep(time.Nanosecond)
		assert.Equal(t, enqueue("a"), false)

		// The window is that of the time when the task is due.
		assert.Equal(t, enqueue("a", handoff.In(59*time.Minute)), true)
		assert.Equal(t, enqueue("a", handoff.In(61*time.Minute)), false)
		keys := make(map[string]bool)
		for _, task := range server.taken() {
			header := task.GetHttpRequest().GetHeaders()
			assert.Equal(t, header["Handoff-Window"], "3600000")
			keys[header["Handoff-Key"]] = true
		}
		assert.Equal(t, len(keys), 4)
	})
}

// lost returns a script that fails the first create with code, after storing the
// task if stored is set.
func lost(code codes.Code, stored bool) func(context.Context, int, *cloudtaskspb.CreateTaskRequest, func() (*cloudtaskspb.Task, error)) (*cloudtaskspb.Task, error) {
	return func(_ context.Context, n int, _ *cloudtaskspb.CreateTaskRequest, take func() (*cloudtaskspb.Task, error)) (*cloudtaskspb.Task, error) {
		if n > 1 {
			return take()
		}
		if stored {
			if _, err := take(); err != nil {
				return nil, err
			}
		}
		return nil, status.Error(code, "lost")
	}
}

// A create whose response was lost is retried under the same ID.
func TestEnqueueLostResponse(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		code    codes.Code
		stored  bool
		payload handoff.Payload
		tasks   int
	}{
		"unavailable, not stored":           {codes.Unavailable, false, job{}, 1},
		"unavailable, stored":               {codes.Unavailable, true, job{}, 2},
		"deadline, stored":                  {codes.DeadlineExceeded, true, job{}, 2},
		"quota":                             {codes.ResourceExhausted, false, job{}, 1},
		"keyed, unavailable, stored":        {codes.Unavailable, true, order{ID: "1"}, 1},
		"keyed, deadline exceeded, stored":  {codes.DeadlineExceeded, true, order{ID: "1"}, 1},
		"keyed, unavailable, and not there": {codes.Unavailable, false, order{ID: "1"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := &taskServer{script: lost(tc.code, tc.stored)}
				client := server.client(t, nil)
				receipt, err := client.Enqueue(t.Context(), tc.payload)
				assert.NoError(t, err)
				assert.Equal(t, receipt.Duplicate, false)
				ids := make(map[string]bool)
				for _, task := range server.taken() {
					ids[task.GetHttpRequest().GetHeaders()["Handoff-Id"]] = true
				}
				assert.Equal(t, ids, map[string]bool{receipt.ID: true})
				assert.Equal(t, len(server.taken()), tc.tasks)
			})
		})
	}
}

// A call refused by a quota has created nothing, so a task that exists at the
// second try was created by another.
func TestEnqueueDuplicateAfterACertainRefusal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &taskServer{script: lost(codes.ResourceExhausted, true)}
		client := server.client(t, nil)
		receipt, err := client.Enqueue(t.Context(), order{ID: "1"})
		assert.NoError(t, err)
		assert.Equal(t, receipt.Duplicate, true)
	})
}

func TestEnqueueRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		code codes.Code
		says string
	}{
		{codes.NotFound, "either the queue or the service account"},
		{codes.PermissionDenied, "cloudtasks.tasks.create"},
		{codes.Unauthenticated, "refused"},
		{codes.InvalidArgument, "refused"},
		{codes.FailedPrecondition, "refused"},
	} {
		t.Run(tc.code.String(), func(t *testing.T) {
			t.Parallel()
			server := &taskServer{script: func(context.Context, int, *cloudtaskspb.CreateTaskRequest, func() (*cloudtaskspb.Task, error)) (*cloudtaskspb.Task, error) {
				return nil, status.Error(tc.code, "refused")
			}}
			_, err := server.client(t, nil).Enqueue(t.Context(), job{})
			assert.ErrorContains(t, err, "handoff: enqueue job on queue \"q\"", tc.says)
			assert.Equal(t, status.Code(err), tc.code)
			assert.Equal(t, errors.Is(err, handoff.ErrUnknown), false)
			creates, _, _ := server.counts()
			assert.Equal(t, creates, 1)
		})
	}
}

// hang returns when the caller's context has ended.
func hang(ctx context.Context, _ int, _ *cloudtaskspb.CreateTaskRequest, _ func() (*cloudtaskspb.Task, error)) (*cloudtaskspb.Task, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestEnqueueHangingServer(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		timeout time.Duration
		within  time.Duration
		creates int
	}{
		"without a deadline": {0, time.Minute, 3},
		"a long one":         {5 * time.Minute, 5 * time.Minute, 10},
		"a short one":        {time.Second, time.Second, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := new(taskServer)
				longest := time.Duration(0)
				server.script = func(ctx context.Context, n int, req *cloudtaskspb.CreateTaskRequest, take func() (*cloudtaskspb.Task, error)) (*cloudtaskspb.Task, error) {
					end, _ := ctx.Deadline()
					server.mu.Lock()
					longest = max(longest, time.Until(end))
					server.mu.Unlock()
					return hang(ctx, n, req, take)
				}
				client := server.client(t, nil)
				ctx := t.Context()
				if tc.timeout > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tc.timeout)
					defer cancel()
				}
				begun := time.Now()
				receipt, err := client.Enqueue(ctx, job{})
				assert.ErrorIs(t, err, handoff.ErrUnknown)
				if took := time.Since(begun); took > tc.within+time.Second || took < tc.within/2 {
					t.Errorf("gave up after %s, want about %s", took, tc.within)
				}
				if receipt.ID == "" {
					t.Error("no ID to look for")
				}
				creates, _, _ := server.counts()
				if creates < tc.creates {
					t.Errorf("%d creates, want at least %d", creates, tc.creates)
				}
				// The service refuses deadlines over 30 s.
				if longest > 30*time.Second {
					t.Errorf("an RPC had %s", longest)
				}
			})
		})
	}
}

func TestEnqueueCancelled(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	client := server.client(t, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	_, err := client.Enqueue(ctx, job{})
	assert.ErrorIs(t, err, handoff.ErrNotSent)
	assert.ErrorIs(t, err, why)
	creates, _, _ := server.counts()
	assert.Equal(t, creates, 0)

	ctx, cancel = context.WithCancelCause(t.Context())
	server.script = func(context.Context, int, *cloudtaskspb.CreateTaskRequest, func() (*cloudtaskspb.Task, error)) (*cloudtaskspb.Task, error) {
		cancel(why)
		return nil, status.Error(codes.Unavailable, "away")
	}
	_, err = client.Enqueue(ctx, job{})
	assert.ErrorIs(t, err, handoff.ErrUnknown)
	assert.ErrorIs(t, err, why)
}

// An unreliable server loses responses after storing the task, responds late, and
// fails every third create. In the end every payload has exactly one task.
func TestEnqueueLostLateAndFailing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &taskServer{script: unreliable}
		client := server.client(t, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		const n = 300
		receipts := make([]handoff.Receipt, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				receipt, err := client.Enqueue(ctx, job{N: i})
				if err != nil {
					t.Errorf("%d: %v", i, err)
				}
				receipts[i] = receipt
			})
		}
		wg.Wait()
		ids := make(map[int]string)
		for _, task := range server.taken() {
			var p job
			assert.NoError(t, json.Unmarshal(task.GetHttpRequest().GetBody(), &p))
			id := task.GetHttpRequest().GetHeaders()["Handoff-Id"]
			if other, ok := ids[p.N]; ok && other != id {
				t.Errorf("payload %d is there under two IDs", p.N)
			}
			ids[p.N] = id
		}
		for i, receipt := range receipts {
			assert.Equal(t, ids[i], receipt.ID)
		}
		if len(server.taken()) == n {
			t.Error("no response was lost, so the test proves nothing")
		}
	})
}

func unreliable(ctx context.Context, n int, _ *cloudtaskspb.CreateTaskRequest, take func() (*cloudtaskspb.Task, error)) (*cloudtaskspb.Task, error) {
	switch {
	case n%3 == 0:
		return nil, status.Error(codes.Unavailable, "every third")
	case n%7 == 0:
		_, _ = take()
		return nil, status.Error(codes.Unavailable, "stored, and the response lost")
	case n%11 == 0:
		task, err := take()
		<-ctx.Done() // too late for the caller
		return task, err
	}
	return take()
}

func TestEnqueueInstrument(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	type key struct{}
	var seen handoff.Enqueuing
	var ended []error
	bad := false
	client := server.client(t, func(c *handoff.ClientConfig) {
		c.Instrument = func(ctx context.Context, e handoff.Enqueuing) (context.Context, func(handoff.Receipt, error)) {
			seen = e
			seen.Header = nil
			e.Header["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
			if bad {
				e.Header["Handoff-Id"] = "mine"
			}
			return context.WithValue(ctx, key{}, 1), func(r handoff.Receipt, err error) {
				assert.Equal(t, r.ID, e.ID)
				ended = append(ended, err)
			}
		}
	})
	receipt, err := client.Enqueue(t.Context(), job{N: 1})
	assert.NoError(t, err)
	assert.Equal(t, seen, handoff.Enqueuing{ID: receipt.ID, Kind: "job", Queue: "q", ScheduledAt: receipt.ScheduledAt, Size: 7})
	assert.Equal(t, server.only(t).GetHttpRequest().GetHeaders()["Traceparent"], "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	assert.Equal(t, len(ended), 1)
	assert.NoError(t, ended[0])

	bad = true
	_, err = client.Enqueue(t.Context(), job{N: 1})
	assert.ErrorContains(t, err, "Instrument", "Handoff-Id")
	assert.Equal(t, len(ended), 2)
	assert.ErrorIs(t, ended[1], err)
	assert.Equal(t, len(server.taken()), 1)
}

func TestEnqueueCompresses(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	client := server.client(t, func(c *handoff.ClientConfig) { c.CompressOver = 1000 })
	for _, tc := range []struct {
		id   string
		want string
	}{
		{strings.Repeat("a", 900), ""},
		{strings.Repeat("a", 2000), "gzip"},
		{noise(2000), ""}, // compressing makes it no smaller than JSON can say it
	} {
		_, err := client.Enqueue(t.Context(), blob{tc.id})
		assert.NoError(t, err)
		tasks := server.taken()
		r := tasks[len(tasks)-1].GetHttpRequest()
		got := r.GetHeaders()["Content-Encoding"]
		if tc.want != "" || got == "" {
			assert.Equal(t, got, tc.want)
		}
		if limit := len(tc.id) + len(`{"text":""}`); len(r.GetBody()) > limit {
			t.Errorf("%d bytes became %d", limit, len(r.GetBody()))
		}
	}
	server = new(taskServer)
	client = server.client(t, func(c *handoff.ClientConfig) { c.CompressOver = -1 })
	_, err := client.Enqueue(t.Context(), blob{strings.Repeat("a", 100_000)})
	assert.NoError(t, err)
	assert.Equal(t, maps.Clone(server.only(t).GetHttpRequest().GetHeaders())["Content-Encoding"], "")
}

type blob struct {
	Text string `json:"text"`
}

func (blob) Kind() string { return "blob" }

// noise returns n bytes of text that hardly compress.
func noise(n int) string {
	var b strings.Builder
	for x := uint64(1); b.Len() < n; {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		fmt.Fprintf(&b, "%c", 33+x%94)
	}
	return strings.NewReplacer(`"`, "x", `\`, "y", "<", "z", ">", "u", "&", "v").Replace(b.String()[:n])
}
