package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/pgtest"
	"github.com/brillconsulting/handoff/sqlstore"
)

// sqlRig is the rig with PostgreSQL in place of Redis. Its ledger is two tables:
// orders has what was committed, effects what was done.
type sqlRig struct {
	rig
	postgres *pgtest.Server
	pool     *sql.DB
	db       *sqlstore.DB
	outbox   *sqlstore.Outbox
}

// postgres is a server that the rig restarts.
type postgres struct{ *pgtest.Server }

func (p postgres) kill() { p.Kill() }

func (p postgres) start(context.Context) error { return p.Restart() }

// runSQL is the whole: set up, trouble, calm, check.
func (c config) runSQL(ctx context.Context) (*report, error) {
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	start := time.Now()
	r := &sqlRig{rig: rig{config: c, events: make(map[string]int)}}
	defer func() { _ = os.RemoveAll(r.dir) }()
	err := r.start(ctx)
	if err == nil {
		err = r.drive(ctx)
	}
	rep := &report{endings: make(map[string]int), troubles: r.events}
	if err == nil {
		err = r.check(context.WithoutCancel(ctx), rep)
	}
	if err := errors.Join(err, r.stop(), errors.Join(r.errs...)); err != nil {
		return nil, r.explain(err)
	}
	rep.took = time.Since(start)
	return rep, nil
}

func (r *sqlRig) start(ctx context.Context) (err error) {
	if r.dir, err = os.MkdirTemp("", "chaos-"); err != nil {
		return err
	}
	if r.ledger, err = openLedger(filepath.Join(r.dir, "ledger-rig")); err != nil {
		return err
	}
	if r.postgres, err = pgtest.New("-c", "max_connections=300"); err != nil {
		return err
	}
	r.store = postgres{r.postgres}
	if r.pool, err = connect(r.postgres.Addr()); err != nil {
		return err
	}
	if r.db, err = sqlstore.New(r.pool, sqlstore.Config{Dialect: sqlstore.Postgres}); err != nil {
		return err
	}
	if err := r.db.Migrate(ctx); err != nil {
		return err
	}
	// effects has no unique index: nothing but the library keeps doubles out.
	if _, err := r.pool.ExecContext(ctx, `CREATE TABLE orders (id text PRIMARY KEY); CREATE TABLE effects (id text)`); err != nil {
		return err
	}
	if err := r.startCloud(ctx, roleSQLWorker, r.postgres.Addr()); err != nil {
		return err
	}
	r.outbox = r.db.Outbox(r.client)
	return nil
}

func (r *sqlRig) stop() error {
	err := r.rig.stop()
	if r.pool != nil {
		err = errors.Join(err, r.pool.Close())
	}
	if r.postgres != nil {
		r.postgres.Close()
	}
	return err
}

// drive places orders, makes trouble meanwhile, and waits until the outbox and
// Cloud Tasks have nothing left.
func (r *sqlRig) drive(ctx context.Context) error {
	troubled, calm := context.WithTimeout(ctx, r.config.trouble)
	defer calm()
	var wg sync.WaitGroup
	wg.Go(func() { r.trouble(troubled, rand.New(rand.NewPCG(r.config.seed, 1))) })
	r.place(ctx)
	<-troubled.Done()
	wg.Wait()
	return r.settle(ctx)
}

// place enqueues orders in transactions, a tenth of which are rolled back. A commit
// whose response is lost is left as it is: the tables tell what became of it.
func (r *sqlRig) place(ctx context.Context) {
	next := make(chan int)
	var wg sync.WaitGroup
	for n := range 8 {
		random := rand.New(rand.NewPCG(r.config.seed, uint64(2+n)))
		wg.Go(func() {
			for i := range next {
				if err := r.placeOne(ctx, random, i); err != nil {
					r.count("orders that failed")
					pause(ctx, 20*time.Millisecond)
				}
			}
		})
	}
	for i := range r.config.tasks {
		next <- i
	}
	close(next)
	wg.Wait()
}

func (r *sqlRig) placeOne(ctx context.Context, random *rand.Rand, i int) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	o := order{ID: strconv.Itoa(i), Work: time.Duration(random.Int64N(int64(20 * time.Millisecond)))}
	n := random.IntN(1000)
	for _, act := range orderActs {
		if n -= act.share; n < 0 {
			o.Act = act.name
			break
		}
	}
	if random.IntN(50) == 0 {
		o.Work = time.Duration(random.Int64N(int64(lease)))
	}
	tx, err := r.pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := placeOrder(ctx, tx, r.outbox, o, i); err != nil {
		return err
	}
	if random.IntN(10) == 0 {
		r.count("orders rolled back")
		return nil
	}
	return tx.Commit()
}

// settle waits for the end. Rows that a killed relay had in its hands would wait for
// a minute; an operator retries them.
func (r *sqlRig) settle(ctx context.Context) error {
	for {
		rows, err := r.outbox.List(ctx, 0, 1000, false)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if _, err := r.outbox.Retry(ctx, row.ID); err != nil {
				return err
			}
		}
		if len(rows) == 0 {
			if err := r.tasks.Wait(ctx); err != nil {
				return fmt.Errorf("the tasks did not settle: %w", err)
			}
			rows, err = r.outbox.List(ctx, 0, 1, false) // of orders that follow others
			if err != nil || len(rows) == 0 {
				return err
			}
		}
		if !pause(ctx, 2*time.Second) {
			return fmt.Errorf("%d rows are left in the outbox: %w", len(rows), context.Cause(ctx))
		}
	}
}

// check holds the tables against what is promised.
func (r *sqlRig) check(ctx context.Context, rep *report) error {
	count := func(query string) (n int, err error) {
		err = r.pool.QueryRowContext(ctx, query).Scan(&n)
		return n, err
	}
	for _, c := range []struct{ what, query string }{
		{"orders have no effect", `SELECT count(*) FROM orders WHERE id NOT IN (SELECT id FROM effects)`},
		{"orders have several effects", `SELECT count(*) FROM (SELECT FROM effects GROUP BY id HAVING count(*) > 1) twice`},
		{"effects are of orders that were rolled back", `SELECT count(*) FROM effects WHERE id NOT IN (SELECT id FROM orders)`},
		{"rows are left in the outbox", `SELECT count(*) FROM handoff.outbox`},
	} {
		n, err := count(c.query)
		if err != nil {
			return err
		}
		if n > 0 {
			rep.violations = append(rep.violations, fmt.Sprintf("%d %s", n, c.what))
		}
	}
	letters, err := r.db.DeadLetters().List(ctx, handoff.DeadLetterQuery{Limit: 10})
	if err != nil {
		return err
	}
	for _, l := range letters.Letters {
		rep.violations = append(rep.violations, fmt.Sprintf("%s is dead: %v: %s", l.HandoffID, l.Reasons, l.LastErr))
	}
	if rep.endings["orders committed"], err = count(`SELECT count(*) FROM orders`); err != nil {
		return err
	}
	rep.runs, err = count(`SELECT count(*) FROM effects`)
	rep.endings["effects"] = rep.runs
	return err
}
