package sql_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/pgtest"
)

// inFlight is how many tasks are worked on at once.
const inFlight = 100

// durable is a server that syncs to disk, as one in production does.
func durable(b *testing.B, args ...string) (*pgtest.Server, *sql.DB) {
	b.Helper()
	server := pgtest.Start(b, append([]string{"-c", "fsync=on", "-c", "max_connections=200"}, args...)...)
	pool, err := sql.Open("pgx", server.URL())
	if err != nil {
		b.Fatal(err)
	}
	pool.SetMaxOpenConns(20)
	pool.SetMaxIdleConns(20)
	b.Cleanup(func() { _ = pool.Close() })
	return server, pool
}

// processorTime is what this process and the server with all its children have
// used so far.
func processorTime(b *testing.B, server *pgtest.Server) time.Duration {
	b.Helper()
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		b.Fatal(err)
	}
	sum := time.Duration(own.Utime.Nano() + own.Stime.Nano())
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range stats {
		text, err := os.ReadFile(name)
		_, after, found := strings.Cut(string(text), ") ")
		fields := strings.Fields(after)
		pid := filepath.Base(filepath.Dir(name))
		if err != nil || !found || (fields[1] != strconv.Itoa(server.PID()) && pid != strconv.Itoa(server.PID())) {
			continue
		}
		times := fields[11:13] // user and system, in hundredths of a second
		if pid == strconv.Itoa(server.PID()) {
			times = fields[11:15] // and those of its children that have ended
		}
		ticks := 0
		for _, field := range times {
			n, _ := strconv.Atoi(field)
			ticks += n
		}
		sum += time.Duration(ticks) * 10 * time.Millisecond
	}
	return sum
}

// parallel runs one for each of b.N, a hundred at once.
func parallel(b *testing.B, server *pgtest.Server, one func(n int64) error) {
	b.Helper()
	var n atomic.Int64
	b.SetParallelism(inFlight / 2) // for two cores
	before := processorTime(b, server)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := one(n.Add(1)); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64((processorTime(b, server)-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

// BenchmarkEnqueue is a transaction with a business row, without a task, with one, and
// with a job of river's.
func BenchmarkEnqueue(b *testing.B) {
	server, pool := durable(b)
	db := inSchema(b, pool, "handoff")
	if err := db.Migrate(b.Context()); err != nil {
		b.Fatal(err)
	}
	client, err := handoff.NewClient(b.Context(), handoff.ClientConfig{
		Project: "p", Location: "l", DraftOnly: true, Target: handoff.HTTPTarget{URL: "http://127.0.0.1:1/tasks", DangerouslySendUnsigned: true},
	})
	if err != nil {
		b.Fatal(err)
	}
	outbox := db.Outbox(client)
	exec(b, pool, `CREATE TABLE orders (id text)`)
	for _, with := range []bool{false, true} {
		b.Run(fmt.Sprint("task=", with), func(b *testing.B) {
			parallel(b, server, func(n int64) error {
				tx, err := pool.BeginTx(b.Context(), nil)
				if err != nil {
					return err
				}
				defer tx.Rollback()
				if _, err := tx.ExecContext(b.Context(), `INSERT INTO orders VALUES ($1)`, fmt.Sprint(n)); err != nil {
					return err
				}
				if with {
					if _, err := outbox.Enqueue(b.Context(), tx, order{}, handoff.OnQueue("q")); err != nil {
						return err
					}
				}
				return tx.Commit()
			})
		})
	}
	b.Run("river", func(b *testing.B) { riverEnqueues(b, server) })
}
