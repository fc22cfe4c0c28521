package sql_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/sqlstore"
	"github.com/brillconsulting/handoff/sqlstore/sqlitetest"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

const parent = "projects/p/locations/l"

// shop is an outbox with a service behind it, whose queues dispatch nothing.
type shop struct {
	t      testing.TB
	db     *sqlstore.DB
	pool   *sql.DB
	schema string
	table  string                         // of the outbox
	again  func() (*sqlstore.DB, *sql.DB) // on another pool
	srv    *emulator.Server
	client *handoff.Client
	outbox *sqlstore.Outbox
}

func newShop(t testing.TB, queues ...string) *shop {
	t.Helper()
	s := &shop{t: t, schema: newSchema()}
	s.table = quoted(s.schema) + ".outbox"
	s.again = func() (*sqlstore.DB, *sql.DB) {
		pool := connect(t)
		return inSchema(t, pool, s.schema), pool
	}
	return s.open(queues...)
}

// newSQLiteShop is newShop on a file of SQLite.
func newSQLiteShop(t testing.TB, queues ...string) *shop {
	t.Helper()
	s := &shop{t: t, schema: oddSchema, table: quoted(oddSchema + "_outbox")}
	path := filepath.Join(t.TempDir(), "a.db")
	s.again = func() (*sqlstore.DB, *sql.DB) { return sqlitetest.New(t, path, sqlstore.Config{Schema: s.schema}) }
	return s.open(queues...)
}

// onEach tries what holds with every dialect.
func onEach(t *testing.T, try func(s *shop), queues ...string) {
	t.Helper()
	t.Parallel()
	for name, open := range map[string]func(testing.TB, ...string) *shop{"PostgreSQL": newShop, "SQLite": newSQLiteShop} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			try(open(t, queues...))
		})
	}
}

func (s *shop) open(queues ...string) *shop {
	s.t.Helper()
	s.srv = emulator.RunT(s.t)
	s.db, s.pool = s.again()
	if err := s.db.Migrate(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	for _, id := range queues {
		s.createQueue(id)
	}
	s.client = s.clientWith(nil)
	s.outbox = s.db.Outbox(s.client)
	return s
}

// clientWith returns a client of the shop's service.
func (s *shop) clientWith(change func(*handoff.ClientConfig)) *handoff.Client {
	s.t.Helper()
	config := handoff.ClientConfig{
		Project: "p", Location: "l", Options: s.srv.ClientOptions(),
		Target: handoff.HTTPTarget{URL: "http://127.0.0.1:1/tasks", DangerouslySendUnsigned: true},
	}
	if change != nil {
		change(&config)
	}
	client, err := handoff.NewClient(s.t.Context(), config)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = client.Close() })
	return client
}

func (s *shop) createQueue(id string) {
	s.t.Helper()
	service, err := cloudtasks.NewClient(s.t.Context(), s.srv.ClientOptions()...)
	if err != nil {
		s.t.Fatal(err)
	}
	defer service.Close()
	name := parent + "/queues/" + id
	_, err = service.CreateQueue(s.t.Context(), &cloudtaskspb.CreateQueueRequest{Parent: parent, Queue: &cloudtaskspb.Queue{Name: name}})
	if err == nil {
		_, err = service.PauseQueue(s.t.Context(), &cloudtaskspb.PauseQueueRequest{Name: name})
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// enqueue enqueues n tasks in a transaction and ends that.
func (s *shop) enqueue(n int, queue string, end func(*sql.Tx) error, opts ...handoff.Option) {
	s.t.Helper()
	tx, err := s.pool.Begin()
	if err != nil {
		s.t.Fatal(err)
	}
	for range n {
		if _, err := s.outbox.Enqueue(s.t.Context(), tx, order{}, append(opts, handoff.OnQueue(queue))...); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := end(tx); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shop) send() int {
	s.t.Helper()
	n, err := s.outbox.Send(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *shop) want(queue string, tasks, rows int) {
	s.t.Helper()
	left, err := s.outbox.List(s.t.Context(), 0, 100_000, false)
	if err != nil {
		s.t.Fatal(err)
	}
	if got := len(s.srv.Tasks(parent + "/queues/" + queue)); got != tasks || len(left) != rows {
		s.t.Fatalf("queue %s has %d tasks and the outbox %d rows, want %d and %d: %+v", queue, got, len(left), tasks, rows, left[:min(3, len(left))])
	}
}

// TestTasksOfTransactions: a task exists if and only if its transaction committed.
func TestTasksOfTransactions(t *testing.T) { onEach(t, tasksOfTransactions, "q") }

func tasksOfTransactions(s *shop) {
	t := s.t
	s.enqueue(3, "q", (*sql.Tx).Commit)
	s.enqueue(5, "q", (*sql.Tx).Rollback)
	s.want("q", 0, 3)
	if n := s.send(); n != 3 {
		t.Errorf("%d were sent", n)
	}
	s.want("q", 3, 0)
	if n := s.send(); n != 0 {
		t.Errorf("%d were sent again", n)
	}
}

// TestLateCommit: a row that was made before others and commits after they were
// sent is not skipped.
func TestLateCommit(t *testing.T) {
	t.Parallel()
	s := newShop(t, "q")
	late, err := s.pool.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.outbox.Enqueue(t.Context(), late, order{}, handoff.OnQueue("q")); err != nil {
		t.Fatal(err)
	}
	s.enqueue(10, "q", (*sql.Tx).Commit)
	s.send()
	s.want("q", 10, 0)
	if err := late.Commit(); err != nil {
		t.Fatal(err)
	}
	s.send()
	s.want("q", 11, 0)
}

// TestLateCommitUnderARelay: the same for a relay that has gone on meanwhile, which
// nobody nudges.
func TestLateCommitUnderARelay(t *testing.T) {
	t.Parallel()
	s := newShop(t, "q")
	sent := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); len(s.srv.Tasks(parent+"/queues/q")) < n; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("fewer than %d tasks were created", n)
			}
		}
	}
	late, err := s.pool.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for range 150 { // more than a batch
		if _, err := s.outbox.Enqueue(t.Context(), late, order{}, handoff.OnQueue("q")); err != nil {
			t.Fatal(err)
		}
	}
	s.relayed(s.outbox)
	s.enqueue(300, "q", (*sql.Tx).Commit)
	sent(300)
	s.enqueue(10, "q", (*sql.Tx).Commit)
	if err := late.Commit(); err != nil {
		t.Fatal(err)
	}
	s.enqueue(10, "q", (*sql.Tx).Commit)
	sent(470)
}

func TestEnqueueBatch(t *testing.T) { onEach(t, enqueueBatch, "q") }

func enqueueBatch(s *shop) {
	t := s.t
	tx, err := s.pool.Begin()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for receipt, err := range sqlstore.EnqueueBatch(t.Context(), s.outbox, tx, slices.Values(make([]order, 250)), handoff.OnQueue("q")) {
		if err != nil || receipt.ID == "" || receipt.Queue != "q" {
			t.Fatalf("%+v, %v", receipt, err)
		}
		n++
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if sent := s.send(); n != 250 || sent != 250 {
		t.Errorf("%d receipts, %d sent", n, sent)
	}
}

// TestManyRelays: together they create each task once.
func TestManyRelays(t *testing.T) { onEach(t, manyRelays, "a", "b") }

func manyRelays(s *shop) {
	t := s.t
	s.enqueue(700, "a", (*sql.Tx).Commit)
	s.enqueue(700, "b", (*sql.Tx).Commit)
	var relays sync.WaitGroup
	for range 4 {
		outbox := s.db.Outbox(s.client)
		relays.Go(func() {
			if _, err := outbox.Send(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	relays.Wait()
	s.send() // what a relay had in its hands when the others found nothing
	s.want("a", 700, 0)
	s.want("b", 700, 0)
}

// TestMissingQueue: its rows wait, and those of another queue do not wait for
// them.
func TestMissingQueue(t *testing.T) { onEach(t, missingQueue, "there") }

// TestBacklogOfAMissingQueue: 100,000 rows that the service refuses keep no other
// queue waiting. The log has for how long they did.
func TestBacklogOfAMissingQueue(t *testing.T) {
	t.Parallel()
	const backlog = 100_000
	s := newShop(t, "q")
	s.enqueue(1, "missing", (*sql.Tx).Commit)
	exec(t, s.pool, `INSERT INTO `+s.table+` (queue, kind, made, due, next_at, expires, size, draft)
SELECT queue, kind, made, due, next_at, expires, size, draft FROM `+s.table+`, generate_series(2, $1::int)`, backlog)
	s.relayed(s.outbox)
	const rows = 20
	var waited time.Duration
	for i := range rows {
		start := time.Now()
		s.enqueue(1, "q", (*sql.Tx).Commit)
		s.outbox.Nudge(t.Context())
		for len(s.srv.Tasks(parent+"/queues/q")) <= i {
			time.Sleep(5 * time.Millisecond) // between two looks
		}
		waited += time.Since(start)
	}
	t.Logf("a row of another queue waited for %v", waited/rows)
	stats, err := s.outbox.Stats(t.Context())
	if err != nil || stats.Queues[0].Queue != "missing" || stats.Queues[0].Waiting != backlog {
		t.Errorf("%+v, %v", stats, err)
	}
}

func missingQueue(s *shop) {
	t := s.t
	s.enqueue(300, "missing", (*sql.Tx).Commit)
	s.enqueue(20, "there", (*sql.Tx).Commit)
	s.send()
	s.want("there", 20, 300)
	rows, err := s.outbox.List(t.Context(), 0, 1000, true)
	if err != nil || len(rows) != 0 {
		t.Fatalf("parked: %v, %v", rows, err)
	}
	s.createQueue("missing")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.outbox.Run(ctx) }()
	for {
		// All rows: one whose response the end of the relay cuts off would wait for its next try.
		left, err := s.outbox.List(t.Context(), 0, 1000, false)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			break
		}
		time.Sleep(20 * time.Millisecond) // the pauses of the queue and of its rows
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	s.want("missing", 300, 0)
}

// TestParkedRows: what can never be sent is kept and shown.
func TestParkedRows(t *testing.T) { onEach(t, parkedRows, "q") }

func parkedRows(s *shop) {
	t := s.t
	s.enqueue(3, "q", (*sql.Tx).Commit)
	exec(t, s.pool, `UPDATE `+s.table+` SET draft = substr(draft, 2) WHERE id = 2`)
	s.send()
	s.want("q", 2, 1)
	parked, err := s.outbox.List(t.Context(), 0, 10, true)
	if err != nil || len(parked) != 1 || !strings.Contains(parked[0].Parked, "not a Draft") {
		t.Fatalf("%+v, %v", parked, err)
	}
	stats, err := s.outbox.Stats(t.Context())
	if err != nil || stats.Sent != 2 || len(stats.Queues) != 1 || stats.Queues[0] != (sqlstore.QueueStats{Queue: "q", Parked: 1}) {
		t.Fatalf("%+v, %v", stats, err)
	}
	s.send() // takes no parked row
	if found, err := s.outbox.Retry(t.Context(), parked[0].ID); err != nil || !found {
		t.Fatal(found, err)
	}
	s.send()
	s.want("q", 2, 1)
	for _, want := range []bool{true, false} {
		if found, err := s.outbox.Drop(t.Context(), parked[0].ID); err != nil || found != want {
			t.Fatal(found, err)
		}
	}
	s.want("q", 2, 0)
}

// TestExpiredInTheOutbox: a task that was never created is a dead letter, one that
// may have been is not.
func TestExpiredInTheOutbox(t *testing.T) { onEach(t, expiredInTheOutbox, "q") }

func expiredInTheOutbox(s *shop) {
	t := s.t
	s.enqueue(2, "q", (*sql.Tx).Commit)
	exec(t, s.pool, `UPDATE `+s.table+` SET expires = 1, unknown = id = 2`)
	s.send()
	s.want("q", 0, 0)
	page, err := s.db.DeadLetters().List(t.Context(), handoff.DeadLetterQuery{})
	if err != nil || len(page.Letters) != 1 || page.Letters[0].Kind != "order" || page.Letters[0].Reasons[0] != handoff.ReasonExpired {
		t.Fatalf("%+v, %v", page, err)
	}
	stats, err := s.outbox.Stats(t.Context())
	if err != nil || stats.Buried != 1 || stats.Unsure != 1 || stats.Sent != 0 || len(stats.Queues) != 0 {
		t.Fatalf("%+v, %v", stats, err)
	}
}

// TestRelayDiesAtTheSend: a task whose relay died between the send and its
// settlement may exist, so that no dead letter is made of it.
func TestRelayDiesAtTheSend(t *testing.T) { onEach(t, relayDiesAtTheSend, "q") }

func relayDiesAtTheSend(s *shop) {
	t := s.t
	db, pool := s.again()
	dying := db.Outbox(s.clientWith(func(c *handoff.ClientConfig) {
		c.Options = append(c.Options, option.WithGRPCDialOption(grpc.WithUnaryInterceptor(
			func(ctx context.Context, method string, req, resp any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				err := invoke(ctx, method, req, resp, conn, opts...)
				_ = pool.Close()
				return err
			})))
	}))
	s.enqueue(1, "q", (*sql.Tx).Commit)
	if _, err := dying.Send(t.Context()); err == nil {
		t.Fatal("the settlement was written on a closed pool")
	}
	s.want("q", 1, 1)
	exec(t, s.pool, `UPDATE `+s.table+` SET next_at = 0, expires = 1`)
	s.send()
	s.want("q", 1, 0)
	stats, err := s.outbox.Stats(t.Context())
	if err != nil || stats.Buried != 0 || stats.Unsure != 1 {
		t.Errorf("%+v, %v", stats, err)
	}
}

// TestRefusedIsNotUnknown: a task that the service refused was never created, so
// that a dead letter is made of it when it expires.
func TestRefusedIsNotUnknown(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.enqueue(1, "missing", (*sql.Tx).Commit)
	s.send()
	rows, err := s.outbox.List(t.Context(), 0, 10, false)
	if err != nil || len(rows) != 1 || rows[0].Unknown || rows[0].Tries != 1 {
		t.Fatalf("%+v, %v", rows, err)
	}
}

// TestRefusedRowsAreKept: whatever a queue is refused for, its rows wait and are sent
// when it takes tasks again.
func TestRefusedRowsAreKept(t *testing.T) {
	t.Parallel()
	for _, code := range []codes.Code{codes.PermissionDenied, codes.ResourceExhausted, codes.FailedPrecondition} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			s := newShop(t, "q")
			s.enqueue(3, "q", (*sql.Tx).Commit)
			remove := s.srv.InjectCall(emulator.CallFault{Code: code})
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			_, _ = s.outbox.Send(ctx)
			remove()
			rows, err := s.outbox.List(t.Context(), 0, 10, false)
			if err != nil || len(rows) != 3 || rows[0].Parked != "" {
				t.Fatalf("%+v, %v", rows, err)
			}
			for _, row := range rows {
				if _, err := s.outbox.Retry(t.Context(), row.ID); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := s.db.Outbox(s.client).Send(t.Context()); err != nil { // one that has no pause yet
				t.Fatal(err)
			}
			s.want("q", 3, 0)
		})
	}
}

// TestInstrumentAtTheEnqueue: the context of the enqueue is the one that is
// instrumented, not that of the relay alone.
func TestInstrumentAtTheEnqueue(t *testing.T) {
	t.Parallel()
	s := newShop(t, "q")
	type key struct{}
	s.outbox = s.db.Outbox(s.clientWith(func(c *handoff.ClientConfig) {
		c.Instrument = func(ctx context.Context, e handoff.Enqueuing) (context.Context, func(handoff.Receipt, error)) {
			if e.Draft {
				e.Header["X-Trace"], _ = ctx.Value(key{}).(string)
			} else if e.Header["X-Trace"] != "of the request" {
				t.Errorf("a send sees %v", e.Header)
			}
			return ctx, nil
		}
	}))
	tx, err := s.pool.Begin()
	if err == nil {
		_, err = s.outbox.Enqueue(context.WithValue(t.Context(), key{}, "of the request"), tx, order{}, handoff.OnQueue("q"))
	}
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		t.Fatal(err)
	}
	s.send()
	if got := s.srv.Tasks(parent + "/queues/q")[0].GetHttpRequest().GetHeaders()["X-Trace"]; got != "of the request" {
		t.Errorf("the task has %q", got)
	}
}

// TestOutboxWithoutClient: it is for operators.
func TestOutboxWithoutClient(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.enqueue(1, "q", (*sql.Tx).Commit)
	outbox := s.db.Outbox(nil)
	rows, err := outbox.List(t.Context(), 0, 10, false)
	if err != nil || len(rows) != 1 {
		t.Fatal(rows, err)
	}
	_, sendErr := outbox.Send(t.Context())
	_, enqueueErr := outbox.Enqueue(t.Context(), nil, order{})
	_, requestErr := outbox.EnqueueRequest(t.Context(), nil, handoff.Request{})
	for _, err := range []error{sendErr, enqueueErr, requestErr, outbox.Run(t.Context())} {
		if err == nil || !strings.Contains(err.Error(), "no client") {
			t.Errorf("got %v", err)
		}
	}
}

// TestFarAhead: what is due beyond the service's 30 days waits in the outbox.
func TestFarAhead(t *testing.T) { onEach(t, farAhead, "q") }

func farAhead(s *shop) {
	t := s.t
	s.enqueue(1, "q", (*sql.Tx).Commit, handoff.In(40*24*time.Hour))
	s.enqueue(1, "q", (*sql.Tx).Commit, handoff.In(20*24*time.Hour))
	stats, err := s.outbox.Stats(t.Context())
	if err != nil || stats.Queues[0].Waiting != 1 || stats.Queues[0].Later != 1 || time.Since(stats.Queues[0].Oldest) > time.Minute {
		t.Fatalf("%+v, %v", stats, err)
	}
	s.send()
	s.want("q", 1, 1)
}

func TestOutboxRefuses(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	over, err := s.pool.Begin()
	if err != nil {
		t.Fatal(err)
	}
	_ = over.Rollback()
	for want, tx := range map[string]sqlstore.Tx{"no transaction": s.pool, "is nil": nil, "already been": over} {
		if _, err := s.outbox.Enqueue(t.Context(), tx, order{}, handoff.OnQueue("q")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	drafts, err := handoff.NewClient(t.Context(), handoff.ClientConfig{
		Project: "p", Location: "l", DraftOnly: true, Target: handoff.HTTPTarget{URL: "http://127.0.0.1:1/tasks", DangerouslySendUnsigned: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	outbox := s.db.Outbox(drafts)
	_, sendErr := outbox.Send(t.Context())
	for _, err := range []error{sendErr, outbox.Run(t.Context())} {
		if err == nil || !strings.Contains(err.Error(), "DraftOnly") {
			t.Errorf("got %v", err)
		}
	}
}

// TestLostResponse: a row whose task may exist is sent again, not deleted.
func TestLostResponse(t *testing.T) {
	t.Parallel()
	s := newShop(t, "q")
	s.enqueue(2, "q", (*sql.Tx).Commit)
	remove := s.srv.InjectCall(emulator.CallFault{Code: codes.Unavailable})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, _ = s.outbox.Send(ctx)
	remove()
	s.want("q", 0, 2)
	rows, err := s.outbox.List(t.Context(), 0, 10, false)
	if err != nil || !rows[0].Unknown || rows[0].Tries != 1 {
		t.Fatalf("%+v, %v", rows, err)
	}
	for _, row := range rows {
		if _, err := s.outbox.Retry(t.Context(), row.ID); err != nil {
			t.Fatal(err)
		}
	}
	s.send()
	s.want("q", 2, 0)
}

// TestNoQueueWaitsForAnother: while the service does not answer for one queue, whose
// rows are many, those of another are sent.
func TestNoQueueWaitsForAnother(t *testing.T) { onEach(t, noQueueWaitsForAnother, "there") }

func noQueueWaitsForAnother(s *shop) {
	t := s.t
	release := make(chan struct{})
	asked := make(chan struct{}, 100)
	var givenUp atomic.Bool
	s.outbox = s.db.Outbox(s.clientWith(func(c *handoff.ClientConfig) {
		c.Options = append(c.Options, option.WithGRPCDialOption(grpc.WithUnaryInterceptor(
			func(ctx context.Context, method string, req, resp any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				if batch, ok := req.(*cloudtaskspb.BatchCreateTasksRequest); ok && strings.HasSuffix(batch.GetParent(), "/slow") {
					asked <- struct{}{}
					select {
					case <-release:
					case <-ctx.Done():
						givenUp.Store(true)
					}
				}
				return invoke(ctx, method, req, resp, conn, opts...)
			})))
	}))
	s.enqueue(1000, "slow", (*sql.Tx).Commit)
	s.relayed(s.outbox)
	<-asked
	s.enqueue(300, "there", (*sql.Tx).Commit)
	s.outbox.Nudge(t.Context())
	for len(s.srv.Tasks(parent+"/queues/there")) < 300 {
		time.Sleep(10 * time.Millisecond) // between two looks
	}
	if givenUp.Load() {
		t.Error("they were sent when the relay had given up on the others")
	}
	close(release)
}
