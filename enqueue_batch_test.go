package handoff_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
)

func jobs(n int) iter.Seq[job] {
	return func(yield func(job) bool) {
		for i := range n {
			if !yield(job{N: i}) {
				return
			}
		}
	}
}

// accept is the batch call of a server that stores every task.
func accept(_ context.Context, _ int, _ *cloudtaskspb.BatchCreateTasksRequest, take func() *longrunningpb.Operation) (*longrunningpb.Operation, error) {
	return take(), nil
}

// outcomeOfBatch returns the result of one pair of a batch, in a word.
func outcomeOfBatch(r handoff.Receipt, err error) string {
	switch {
	case errors.Is(err, handoff.ErrUnknown):
		return "unknown"
	case errors.Is(err, handoff.ErrNotSent):
		return "not sent"
	case err != nil:
		return "failed"
	case r.Duplicate:
		return "duplicate"
	}
	return "created"
}

// checkReceipts compares the receipts, in the order of the payloads, with the tasks
// that the server holds.
func checkReceipts(t *testing.T, server *taskServer, receipts []handoff.Receipt) {
	t.Helper()
	bodies := make(map[string]string)
	for _, task := range server.taken() {
		bodies[task.Name] = task.GetHttpRequest().GetHeaders()["Handoff-Id"] + string(task.GetHttpRequest().GetBody())
	}
	for i, r := range receipts {
		if want := fmt.Sprintf(`%s{"n":%d}`, r.ID, i); bodies[r.Name] != want {
			t.Fatalf("pair %d names %s, which holds %s, want %s", i, r.Name, bodies[r.Name], want)
		}
	}
}

func TestBatch(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 99, 100, 101, 2500} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			server := &taskServer{batch: accept}
			client := server.client(t, nil)
			var receipts []handoff.Receipt
			for receipt, err := range handoff.EnqueueBatch(t.Context(), client, jobs(n)) {
				assert.NoError(t, err)
				receipts = append(receipts, receipt)
			}
			assert.Equal(t, len(receipts), n)
			checkReceipts(t, server, receipts)
			assert.Equal(t, len(server.taken()), n)
			_, batches, _ := server.counts()
			assert.Equal(t, batches, (n+99)/100)
		})
	}
}

// The options apply to every task, and a slice is a valid sequence of payloads.
func TestBatchOptions(t *testing.T) {
	t.Parallel()
	server := &taskServer{batch: accept}
	client := server.client(t, nil)
	at := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	for _, err := range handoff.EnqueueBatch(t.Context(), client, slices.Values([]order{{ID: "1"}, {ID: "2"}}), handoff.At(at), handoff.OnQueue("bulk")) {
		assert.NoError(t, err)
	}
	tasks := server.taken()
	assert.Equal(t, len(tasks), 2)
	for _, task := range tasks {
		assert.Equal(t, task.GetScheduleTime().AsTime().UnixNano(), at.UnixNano())
		if !strings.HasPrefix(task.Name, "projects/p/locations/l/queues/bulk/tasks/") || len(task.Name) < 100 {
			t.Errorf("name %s", task.Name)
		}
	}
	for _, opt := range []handoff.Option{handoff.Key("k"), handoff.Name("n"), handoff.In(-1)} {
		taken := 0
		pairs := 0
		for receipt, err := range handoff.EnqueueBatch(t.Context(), client, func(func(job) bool) { taken++ }, opt) {
			pairs++
			assert.Equal(t, receipt, handoff.Receipt{})
			assert.ErrorContains(t, err, "handoff: ")
		}
		assert.Equal(t, pairs, 1)
		assert.Equal(t, taken, 0)
	}
}

// A payload that cannot be enqueued has its pair in order, and the others are
// enqueued.
func TestBatchBadPayloads(t *testing.T) {
	t.Parallel()
	server := &taskServer{batch: accept}
	client := server.client(t, nil)
	var got []string
	for receipt, err := range handoff.EnqueueBatch(t.Context(), client, slices.Values([]checked{{1}, {-1}, {3}})) {
		got = append(got, outcomeOfBatch(receipt, err))
		if err != nil {
			assert.ErrorIs(t, err, errTooYoung)
		}
	}
	assert.Equal(t, got, []string{"created", "failed", "created"})
	assert.Equal(t, len(server.taken()), 2)
}

func TestBatchDuplicates(t *testing.T) {
	t.Parallel()
	server := &taskServer{batch: accept}
	client := server.client(t, nil)
	orders := []order{{ID: "1"}, {ID: "2"}, {ID: "1"}, {ID: "3"}}
	for _, want := range [][]string{
		{"created", "created", "duplicate", "created"},
		{"duplicate", "duplicate", "duplicate", "duplicate"},
	} {
		var got []string
		for receipt, err := range handoff.EnqueueBatch(t.Context(), client, slices.Values(orders)) {
			got = append(got, outcomeOfBatch(receipt, err))
			if !strings.Contains(receipt.Name, "/queues/orders/tasks/") {
				t.Errorf("name %q", receipt.Name)
			}
		}
		assert.Equal(t, got, want)
	}
	assert.Equal(t, len(server.taken()), 3)
}

// tenant is a payload whose queue depends on its fields.
type tenant struct {
	Name string
	N    int
}

func (tenant) Kind() string             { return "tenant" }
func (p tenant) Policy() handoff.Policy { return handoff.Policy{Queue: p.Name} }

func TestBatchOfSeveralQueues(t *testing.T) {
	t.Parallel()
	server := &taskServer{batch: accept}
	client := server.client(t, nil)
	var payloads []tenant
	for i := range 2500 {
		payloads = append(payloads, tenant{Name: fmt.Sprintf("q%d", i%7), N: i})
	}
	payloads[0].Name = "lonely" // its chunk never fills up, and the first pair waits for it
	n := 0
	for receipt, err := range handoff.EnqueueBatch(t.Context(), client, slices.Values(payloads)) {
		assert.NoError(t, err)
		assert.Equal(t, receipt.Queue, payloads[n].Name)
		n++
	}
	assert.Equal(t, n, len(payloads))
	assert.Equal(t, len(server.taken()), n)
	for _, task := range server.taken() {
		if got := string(task.GetHttpRequest().GetBody()); !strings.Contains(got, strings.Split(task.Name, "/")[5]) {
			t.Fatalf("%s holds %s", task.Name, got)
		}
	}
}

func TestBatchChunksByBytes(t *testing.T) {
	t.Parallel()
	server := &taskServer{batch: func(_ context.Context, _ int, req *cloudtaskspb.BatchCreateTasksRequest, take func() *longrunningpb.Operation) (*longrunningpb.Operation, error) {
		size := 0
		for _, r := range req.Requests {
			size += len(r.Task.GetHttpRequest().GetBody())
		}
		if size > 3<<20 {
			t.Errorf("a call of %d bytes", size)
		}
		return take(), nil
	}}
	client := server.client(t, func(c *handoff.ClientConfig) { c.CompressOver = -1 })
	payloads := slices.Repeat([]blob{{strings.Repeat("x", 900_000)}}, 10)
	for _, err := range handoff.EnqueueBatch(t.Context(), client, slices.Values(payloads)) {
		assert.NoError(t, err)
	}
	assert.Equal(t, len(server.taken()), 10)
	_, batches, _ := server.counts()
	assert.Equal(t, batches, 4)
}

// What the batch call does, and how three tasks must end.
func TestBatchFailures(t *testing.T) {
	t.Parallel()
	type script = func(ctx context.Context, n int, req *cloudtaskspb.BatchCreateTasksRequest, take func() *longrunningpb.Operation) (*longrunningpb.Operation, error)
	refuse := func(code codes.Code) script {
		return func(context.Context, int, *cloudtaskspb.BatchCreateTasksRequest, func() *longrunningpb.Operation) (*longrunningpb.Operation, error) {
			return nil, status.Error(code, "refused")
		}
	}
	// partly fails item 1 with code in the first call.
	partly := func(code codes.Code, stored bool) script {
		return func(_ context.Context, n int, req *cloudtaskspb.BatchCreateTasksRequest, take func() *longrunningpb.Operation) (*longrunningpb.Operation, error) {
			if n > 1 {
				return take(), nil
			}
			if bad := req.Requests[1]; !stored {
				req.Requests = []*cloudtaskspb.CreateTaskRequest{req.Requests[0], req.Requests[2]}
				defer func() { req.Requests = []*cloudtaskspb.CreateTaskRequest{req.Requests[0], bad, req.Requests[1]} }()
			}
			op := take()
			var resp cloudtaskspb.BatchCreateTasksResponse
			if err := op.GetResponse().UnmarshalTo(&resp); err != nil {
				return nil, err
			}
			if stored {
				resp.Tasks = []*cloudtaskspb.Task{resp.Tasks[0], resp.Tasks[2]}
			}
			return operation(req.RequestId, &resp, map[int32]error{1: status.Error(code, "item")}), nil
		}
	}
	lostOnce := func(code codes.Code, stored bool) script {
		return func(_ context.Context, n int, _ *cloudtaskspb.BatchCreateTasksRequest, take func() *longrunningpb.Operation) (*longrunningpb.Operation, error) {
			if n > 1 {
				return take(), nil
			}
			if stored {
				take()
			}
			return nil, status.Error(code, "lost")
		}
	}
	all := func(what string) []string { return []string{what, what, what} }
	for name, tc := range map[string]struct {
		batch   script
		want    []string
		batches int // expected batch calls; 0 for any
		creates int // single ones
		stored  int
	}{
		"unavailable before":      {batch: lostOnce(codes.Unavailable, false), want: all("created"), batches: 2, stored: 3},
		"unavailable after":       {batch: lostOnce(codes.Unavailable, true), want: all("created"), batches: 2, stored: 3}, // same request ID
		"deadline exceeded after": {batch: lostOnce(codes.DeadlineExceeded, true), want: all("created"), batches: 2, stored: 3},
		"quota":                   {batch: lostOnce(codes.ResourceExhausted, false), want: all("created"), batches: 2, stored: 3},
		"no such queue":           {batch: refuse(codes.NotFound), want: all("failed"), batches: 1},
		"not allowed":             {batch: refuse(codes.PermissionDenied), want: all("failed"), batches: 1},
		"broken":                  {batch: refuse(codes.Internal), want: all("unknown"), batches: 1},
		"away for good":           {batch: refuse(codes.Unavailable), want: all("unknown")},
		"no batch call":           {batch: refuse(codes.Unimplemented), want: all("created"), batches: 1, creates: 3, stored: 3},
		"refused as a whole":      {batch: refuse(codes.InvalidArgument), want: all("created"), batches: 1, creates: 3, stored: 3},
		"one is refused":          {batch: partly(codes.InvalidArgument, false), want: []string{"created", "failed", "created"}, batches: 1, stored: 2},
		"one is retried":          {batch: partly(codes.Unavailable, false), want: all("created"), batches: 2, stored: 3},
		"one was stored already":  {batch: partly(codes.Unavailable, true), want: all("created"), batches: 2, stored: 3},
		"one over quota":          {batch: partly(codes.ResourceExhausted, false), want: all("created"), batches: 2, stored: 3},
		"one is broken":           {batch: partly(codes.Internal, true), want: []string{"created", "unknown", "created"}, batches: 1, stored: 3},
		"all fail together": {batch: func(_ context.Context, _ int, req *cloudtaskspb.BatchCreateTasksRequest, _ func() *longrunningpb.Operation) (*longrunningpb.Operation, error) {
			no := status.Error(codes.InvalidArgument, "no")
			op := operation(req.RequestId, nil, map[int32]error{0: no, 1: no, 2: no})
			op.Result = &longrunningpb.Operation_Error{Error: status.New(codes.Aborted, "None of the requests succeeded").Proto()}
			return op, nil
		}, want: all("failed"), batches: 1},
		"the operation fails": {batch: func(_ context.Context, _ int, req *cloudtaskspb.BatchCreateTasksRequest, _ func() *longrunningpb.Operation) (*longrunningpb.Operation, error) {
			op := operation(req.RequestId, nil, nil)
			op.Result = &longrunningpb.Operation_Error{Error: status.New(codes.PermissionDenied, "no").Proto()}
			return op, nil
		}, want: all("failed"), batches: 1},
		"the response names no task": {batch: func(_ context.Context, _ int, req *cloudtaskspb.BatchCreateTasksRequest, take func() *longrunningpb.Operation) (*longrunningpb.Operation, error) {
			take()
			return operation(req.RequestId, &cloudtaskspb.BatchCreateTasksResponse{}, nil), nil
		}, want: all("created"), batches: 1, stored: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := &taskServer{batch: tc.batch}
				client := server.client(t, nil)
				var got []string
				for receipt, err := range handoff.EnqueueBatch(t.Context(), client, slices.Values([]order{{ID: "0"}, {ID: "1"}, {ID: "2"}})) {
					got = append(got, outcomeOfBatch(receipt, err))
					if err != nil && receipt.ID == "" {
						t.Error("a pair without an ID")
					}
				}
				assert.Equal(t, got, tc.want)
				creates, batches, _ := server.counts()
				if tc.batches > 0 {
					assert.Equal(t, batches, tc.batches)
				}
				assert.Equal(t, creates, tc.creates)
				assert.Equal(t, len(server.taken()), tc.stored)
			})
		})
	}
}

// A slow operation is polled until it ends.
func TestBatchFollowsTheOperation(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		poll    func(n int, done *longrunningpb.Operation) (*longrunningpb.Operation, error)
		want    string
		creates int // single ones
	}{
		"done after a while": {func(n int, done *longrunningpb.Operation) (*longrunningpb.Operation, error) {
			if n < 10 {
				return &longrunningpb.Operation{Name: done.Name}, nil
			}
			return done, nil
		}, "created", 0},
		"polls fail meanwhile": {func(n int, done *longrunningpb.Operation) (*longrunningpb.Operation, error) {
			if n < 5 {
				return nil, status.Error(codes.Unavailable, "away")
			}
			return done, nil
		}, "created", 0},
		"never done": {func(_ int, done *longrunningpb.Operation) (*longrunningpb.Operation, error) {
			return &longrunningpb.Operation{Name: done.Name}, nil
		}, "unknown", 0},
		"no operations service": {func(int, *longrunningpb.Operation) (*longrunningpb.Operation, error) {
			return nil, status.Error(codes.Unimplemented, "unknown method GetOperation")
		}, "created", 2},
		"forgotten": {func(int, *longrunningpb.Operation) (*longrunningpb.Operation, error) {
			return nil, status.Error(codes.NotFound, "no such operation")
		}, "unknown", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := new(taskServer)
				var done *longrunningpb.Operation
				server.batch = func(_ context.Context, _ int, _ *cloudtaskspb.BatchCreateTasksRequest, take func() *longrunningpb.Operation) (*longrunningpb.Operation, error) {
					done = take()
					return &longrunningpb.Operation{Name: done.Name}, nil
				}
				server.operation = func(_ context.Context, n int, name string) (*longrunningpb.Operation, error) {
					assert.Equal(t, name, done.Name)
					return tc.poll(n, done)
				}
				client := server.client(t, nil)
				var got []string
				begun := time.Now()
				for receipt, err := range handoff.EnqueueBatch(t.Context(), client, jobs(2)) {
					got = append(got, outcomeOfBatch(receipt, err))
				}
				assert.Equal(t, got, []string{tc.want, tc.want})
				if took := time.Since(begun); took > 61*time.Second {
					t.Errorf("took %s", took)
				}
				creates, _, _ := server.counts()
				assert.Equal(t, creates, tc.creates)
			})
		})
	}
}

// nextReceipt returns the first pair of a batch.
func nextReceipt(pairs iter.Seq2[handoff.Receipt, error]) (handoff.Receipt, error) {
	for receipt, err := range pairs {
		return receipt, err
	}
	return handoff.Receipt{}, errors.New("no pair")
}

// If the server has no batch call, tasks are created one by one, a bounded number
// at a time, and the batch call is not tried again.
func TestBatchWithoutTheBatchCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := new(taskServer)
		now, peak := 0, 0
		server.script = func(_ context.Context, _ int, _ *cloudtaskspb.CreateTaskRequest, take func() (*cloudtaskspb.Task, error)) (*cloudtaskspb.Task, error) {
			server.mu.Lock()
			now++
			peak = max(peak, now)
			server.mu.Unlock()
			time.Sleep(10 * time.Millisecond)
			server.mu.Lock()
			now--
			server.mu.Unlock()
			return take()
		}
		client := server.client(t, nil)
		var receipts []handoff.Receipt
		for receipt, err := range handoff.EnqueueBatch(t.Context(), client, jobs(1000)) {
			assert.NoError(t, err)
			receipts = append(receipts, receipt)
		}
		checkReceipts(t, server, receipts)
		assert.Equal(t, peak, 64)
		_, err := nextReceipt(handoff.EnqueueBatch(t.Context(), client, jobs(1)))
		assert.NoError(t, err)
		_, batches, _ := server.counts()
		if batches > 8 { // the calls in flight when the first was refused
			t.Errorf("%d batch calls", batches)
		}
	})
}

// When the context ends, every payload that was taken still has its pair, and each
// pair is true.
func TestBatchContextEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		server := new(taskServer)
		server.batch = func(ctx context.Context, n int, req *cloudtaskspb.BatchCreateTasksRequest, take func() *longrunningpb.Operation) (*longrunningpb.Operation, error) {
			switch {
			case n <= 3:
				return take(), nil
			case n == 5:
				return nil, status.Error(codes.InvalidArgument, "no") // would be split into halves, but the context has ended
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		client := server.client(t, nil)
		taken := 0
		payloads := func(yield func(job) bool) {
			for i := range 100_000 {
				taken++
				if i == 750 {
					synctest.Wait() // until everything sent has reached the server
					cancel()
				}
				if !yield(job{N: i}) {
					return
				}
			}
		}
		count := make(map[string]int)
		pairs := 0
		for receipt, err := range handoff.EnqueueBatch(ctx, client, payloads) {
			count[outcomeOfBatch(receipt, err)]++
			pairs++
		}
		assert.Equal(t, pairs, taken)
		assert.Equal(t, taken, 751)
		assert.Equal(t, count["created"], len(server.taken()))
		// The last 51 were not sent, nor were halves of the seven chunks.
		if count["not sent"] < 51 || count["failed"] != 0 || count["unknown"] == 0 {
			t.Errorf("pairs: %v", count)
		}
	})
}

// Breaking the loop leaves no goroutine behind.
func TestBatchBrokenOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &taskServer{batch: func(ctx context.Context, _ int, req *cloudtaskspb.BatchCreateTasksRequest, take func() *longrunningpb.Operation) (*longrunningpb.Operation, error) {
			if string(req.Requests[0].Task.GetHttpRequest().GetBody()) != `{"n":0}` {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return take(), nil
		}}
		begun, ended := 0, 0
		client := server.client(t, func(c *handoff.ClientConfig) {
			c.Instrument = func(ctx context.Context, _ handoff.Enqueuing) (context.Context, func(handoff.Receipt, error)) {
				begun++
				return ctx, func(handoff.Receipt, error) { ended++ }
			}
		})
		start := time.Now()
		for _, err := range handoff.EnqueueBatch(t.Context(), client, jobs(1_000_000)) {
			assert.NoError(t, err)
			break
		}
		assert.Equal(t, time.Since(start), 0)
		assert.Equal(t, begun, ended)
		if begun > 2000 {
			t.Errorf("%d payloads were taken before the first pair", begun)
		}
	})
}

// Payloads are taken only when there is room, so the number in memory is bounded.
func TestBatchStreams(t *testing.T) {
	t.Parallel()
	server := &taskServer{batch: accept}
	client := server.client(t, nil)
	taken, yielded, peak := 0, 0, 0
	payloads := func(yield func(job) bool) {
		for i := range 4_000 {
			taken++
			peak = max(peak, taken-yielded)
			if !yield(job{N: i}) {
				return
			}
		}
	}
	for _, err := range handoff.EnqueueBatch(t.Context(), client, payloads) {
		assert.NoError(t, err)
		yielded++
	}
	assert.Equal(t, yielded, 4_000)
	if peak > 1600 {
		t.Errorf("%d payloads were in memory at once", peak)
	}
}
