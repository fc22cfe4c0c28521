package sql_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/brillconsulting/handoff/internal/pgtest"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// riverJob is what river calls a task.
type riverJob struct{}

func (riverJob) Kind() string { return "order" }

// riverWorker writes a row and completes its job in one transaction, as river's
// documentation has it.
type riverWorker struct {
	river.WorkerDefaults[riverJob]

	pool   *pgxpool.Pool
	insert string
	left   *atomic.Int64
	done   chan struct{}
}

func (w *riverWorker) Work(ctx context.Context, job *river.Job[riverJob]) error {
	tx, err := w.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	if _, err := tx.Exec(ctx, w.insert, fmt.Sprint(job.ID)); err != nil {
		return err
	}
	if _, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	if w.left.Add(-1) == 0 {
		close(w.done)
	}
	return nil
}

// riverPool is a pool of river's own driver, of the size that handoff's has.
func riverPool(b *testing.B, server *pgtest.Server) *pgxpool.Pool {
	b.Helper()
	config, err := pgxpool.ParseConfig(server.URL())
	if err != nil {
		b.Fatal(err)
	}
	config.MaxConns = 20
	pool, err := pgxpool.NewWithConfig(b.Context(), config)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		_, err = migrator.Migrate(b.Context(), rivermigrate.DirectionUp, nil)
	}
	if err != nil {
		b.Fatal(err)
	}
	return pool
}

func newRiver(b *testing.B, pool *pgxpool.Pool, config river.Config) *river.Client[pgx.Tx] {
	b.Helper()
	config.Logger = slog.New(slog.DiscardHandler)
	client, err := river.NewClient(riverpgxv5.New(pool), &config)
	if err != nil {
		b.Fatal(err)
	}
	return client
}

// riverEnqueues inserts a business row and a job in a transaction.
func riverEnqueues(b *testing.B, server *pgtest.Server) {
	b.Helper()
	pool := riverPool(b, server)
	client := newRiver(b, pool, river.Config{})
	parallel(b, server, func(n int64) error {
		tx, err := pool.Begin(b.Context())
		if err != nil {
			return err
		}
		defer tx.Rollback(b.Context())
		if _, err := tx.Exec(b.Context(), `INSERT INTO orders VALUES ($1)`, fmt.Sprint(n)); err != nil {
			return err
		}
		if _, err := client.InsertTx(b.Context(), tx, riverJob{}, nil); err != nil {
			return err
		}
		return tx.Commit(b.Context())
	})
}

// riverReceives has a worker of a hundred at once work on b.N jobs.
func riverReceives(b *testing.B, server *pgtest.Server) {
	b.Helper()
	pool := riverPool(b, server)
	table := fmt.Sprintf("river_%d", schemas.Add(1))
	if _, err := pool.Exec(b.Context(), `CREATE TABLE `+table+` (task text, UNIQUE (task) DEFERRABLE INITIALLY IMMEDIATE)`); err != nil {
		b.Fatal(err)
	}
	w := &riverWorker{pool: pool, insert: `INSERT INTO ` + table + ` VALUES ($1)`, left: new(atomic.Int64), done: make(chan struct{})}
	w.left.Store(int64(b.N))
	workers := river.NewWorkers()
	river.AddWorker(workers, w)
	client := newRiver(b, pool, river.Config{Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: inFlight}}, Workers: workers})
	const chunk = 1000
	for left := b.N; left > 0; left -= chunk {
		jobs := make([]river.InsertManyParams, min(chunk, left))
		for i := range jobs {
			jobs[i].Args = riverJob{}
		}
		if _, err := client.InsertMany(b.Context(), jobs); err != nil {
			b.Fatal(err)
		}
	}
	before := processorTime(b, server)
	b.ResetTimer()
	err := client.Start(b.Context())
	if err == nil {
		<-w.done
	}
	b.StopTimer()
	b.ReportMetric(float64((processorTime(b, server)-before).Microseconds())/float64(b.N), "cpu-µs/op")
	if err := errors.Join(err, client.Stop(context.WithoutCancel(b.Context()))); err != nil {
		b.Fatal(err)
	}
}
