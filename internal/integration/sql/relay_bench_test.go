package sql_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	command "os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/pgtest"
	"github.com/brillconsulting/handoff/sqlstore"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// envService makes this program a Cloud Tasks, until its standard input ends: its
// processor time is not the relay's.
const envService = "HANDOFF_BENCH_SERVICE"

func serve() error {
	srv, err := emulator.New(emulator.Config{GRPCAddr: "127.0.0.1:0"})
	if err != nil {
		return err
	}
	defer srv.Close()
	fmt.Println(srv.GRPCAddr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// service starts one, with a queue that dispatches nothing, and returns how to
// connect to it.
func service(b *testing.B) []option.ClientOption {
	b.Helper()
	cmd := command.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envService+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	opts := []option.ClientOption{
		option.WithEndpoint(strings.TrimSpace(addr)), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())), option.WithTelemetryDisabled(),
	}
	queues, err := cloudtasks.NewClient(b.Context(), opts...)
	if err != nil {
		b.Fatal(err)
	}
	defer queues.Close()
	name := parent + "/queues/q"
	_, err = queues.CreateQueue(b.Context(), &cloudtaskspb.CreateQueueRequest{Parent: parent, Queue: &cloudtaskspb.Queue{Name: name}})
	if err == nil {
		_, err = queues.PauseQueue(b.Context(), &cloudtaskspb.PauseQueueRequest{Name: name})
	}
	if err != nil {
		b.Fatal(err)
	}
	return opts
}

// counted is an outbox whose relay ends when it has sent b.N tasks.
type counted struct {
	outbox *sqlstore.Outbox
	left   atomic.Int64
	ended  context.CancelFunc
}

func newCounted(b *testing.B, db *sqlstore.DB, opts []option.ClientOption) *counted {
	b.Helper()
	c := new(counted)
	client, err := handoff.NewClient(b.Context(), handoff.ClientConfig{
		Project: "p", Location: "l", Target: handoff.HTTPTarget{URL: "http://127.0.0.1:1/tasks", DangerouslySendUnsigned: true},
		Options: append(opts, option.WithGRPCDialOption(grpc.WithUnaryInterceptor(
			func(ctx context.Context, method string, req, resp any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				err := invoke(ctx, method, req, resp, conn, opts...)
				if batch, ok := req.(*cloudtaskspb.BatchCreateTasksRequest); ok && err == nil && c.left.Add(-int64(len(batch.GetRequests()))) <= 0 {
					c.ended()
				}
				return err
			}))),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = client.Close() })
	c.outbox = db.Outbox(client)
	return c
}

// relay sends n tasks, and reports what that cost this process and PostgreSQL.
func (c *counted) relay(b *testing.B, server *pgtest.Server, n int) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	c.left.Store(int64(n))
	c.ended = cancel
	own := func() time.Duration {
		var use syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
			b.Fatal(err)
		}
		return time.Duration(use.Utime.Nano() + use.Stime.Nano())
	}
	ownBefore, allBefore := own(), processorTime(b, server)
	b.ResetTimer()
	if err := c.outbox.Run(ctx); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	mine := own() - ownBefore
	database := processorTime(b, server) - allBefore - mine
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(n) }
	b.ReportMetric(each(mine), "go-µs/task")
	b.ReportMetric(each(database), "postgres-µs/task")
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "tasks/s")
}

// fill makes rows of one draft, without the cost of drafting.
func fill(b *testing.B, pool *sql.DB, outbox *sqlstore.Outbox, rows int, queue string) {
	b.Helper()
	tx, err := pool.Begin()
	if err != nil {
		b.Fatal(err)
	}
	if _, err := outbox.Enqueue(b.Context(), tx, order{}, handoff.OnQueue(queue)); err != nil {
		b.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
	exec(b, pool, `INSERT INTO handoff.outbox (queue, kind, made, due, next_at, expires, size, draft)
SELECT queue, kind, made, due, next_at + n, expires, size, draft FROM (SELECT queue, kind, made, due, next_at, expires, size, draft FROM handoff.outbox WHERE queue = $2 ORDER BY id DESC LIMIT 1) one, generate_series(2, $1::int) n`, rows, queue)
}

// BenchmarkRelay sends b.N tasks, first of an outbox that has few more, then of one
// with a backlog, then while a transaction keeps all dead rows; in turns, since other
// programs share the machine. HANDOFF_BENCH_BACKLOG is how many rows it has.
//
//	go test -run '^$' -bench Relay -benchtime 20000x .
func BenchmarkRelay(b *testing.B) {
	backlog := 100_000
	if n, err := strconv.Atoi(os.Getenv("HANDOFF_BENCH_BACKLOG")); err == nil {
		backlog = n
	}
	server, pool := durable(b, "-c", "autovacuum=off") // which would count, now and then
	db := inSchema(b, pool, "handoff")
	if err := db.Migrate(b.Context()); err != nil {
		b.Fatal(err)
	}
	c := newCounted(b, db, service(b))
	for round := range 2 {
		b.Run(fmt.Sprint("alone/", round), func(b *testing.B) {
			exec(b, pool, `TRUNCATE handoff.outbox`)
			fill(b, pool, c.outbox, b.N, "q")
			c.relay(b, server, b.N)
		})
		exec(b, pool, `TRUNCATE handoff.outbox`)
		fill(b, pool, c.outbox, backlog, "q")
		exec(b, pool, `VACUUM ANALYZE handoff.outbox`)
		b.Run(fmt.Sprint("backlog/", round), func(b *testing.B) {
			fill(b, pool, c.outbox, b.N, "q") // for those that are sent
			c.relay(b, server, b.N)
		})
		b.Run(fmt.Sprint("backlog and an open transaction/", round), func(b *testing.B) {
			fill(b, pool, c.outbox, b.N, "q")
			open, err := pool.BeginTx(b.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
			if err != nil {
				b.Fatal(err)
			}
			defer open.Rollback()
			if _, err := open.ExecContext(b.Context(), `SELECT count(*) FROM handoff.migration`); err != nil {
				b.Fatal(err)
			}
			c.relay(b, server, b.N)
		})
	}
}
