package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// riverConfigs are the ways to set river up.
var riverConfigs = map[string]river.Config{
	// Its README, "Starting a client".
	"README": {Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 100}}},
	// Its own benchmark, "river bench".
	"tuned": {
		FetchCooldown:     2 * time.Millisecond,
		FetchPollInterval: 20 * time.Millisecond,
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 2000}},
	},
}

// riverWorker is the process that works off river's table.
type riverWorker struct {
	*counter

	pool   *pgxpool.Pool
	config river.Config
	client *river.Client[pgx.Tx] // while one runs
}

func newRiverWorker(ctx context.Context, s setup) (role, answer, error) {
	config, ok := riverConfigs[s.Variant]
	if !ok {
		return nil, answer{}, fmt.Errorf("river: no variant %q", s.Variant)
	}
	pool, err := pgxpool.New(ctx, s.Postgres)
	if err != nil {
		return nil, answer{}, err
	}
	w := &riverWorker{counter: newCounter(), pool: pool, config: config}
	w.config.Logger = riverLog()
	w.config.Workers = river.NewWorkers()
	river.AddWorker(w.config.Workers, river.WorkFunc(func(_ context.Context, job *river.Job[invoice]) error {
		w.handle(&job.Args)
		return nil
	}))
	return w, answer{}, nil
}

// riverLog keeps its words off the standard output, which is for answers.
func riverLog() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
}

func (w *riverWorker) carryOut(ctx context.Context, o order) (answer, error) {
	switch o.Do {
	case "start":
		config := w.config
		client, err := river.NewClient(riverpgxv5.New(w.pool), &config)
		if err != nil {
			return answer{}, err
		}
		w.client = client
		return answer{}, client.Start(ctx)
	case "stop":
		return answer{}, w.stop(ctx)
	}
	return w.counter.carryOut(ctx, o)
}

// stop waits for the jobs that are in work and for their completions, which
// river writes some at a time.
func (w *riverWorker) stop(ctx context.Context) error {
	if w.client == nil {
		return nil
	}
	err := w.client.Stop(ctx)
	w.client = nil
	return err
}

func (w *riverWorker) close() error {
	defer w.pool.Close()
	return w.stop(context.Background())
}

// migrateRiver makes river's tables.
func migrateRiver(ctx context.Context, pool *pgxpool.Pool) error {
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		return err
	}
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

func truncateRiver(ctx context.Context, pool *pgxpool.Pool) error {
	_, err := pool.Exec(ctx, "TRUNCATE river_job")
	return err
}

// checkRiver makes sure that river itself has the jobs as completed.
func checkRiver(ctx context.Context, pool *pgxpool.Pool, jobs int) error {
	var completed, all int
	const count = "SELECT count(*) FILTER (WHERE state = 'completed'), count(*) FROM river_job"
	if err := pool.QueryRow(ctx, count).Scan(&completed, &all); err != nil {
		return err
	}
	if completed != jobs || all != jobs {
		return fmt.Errorf("river: %d of %d jobs completed, %d in the table", completed, jobs, all)
	}
	return nil
}

// manyInvoices are the parameters of one InsertMany.
func manyInvoices(n int) []river.InsertManyParams {
	params := make([]river.InsertManyParams, n)
	for i := range params {
		params[i].Args = newInvoice()
	}
	return params
}
