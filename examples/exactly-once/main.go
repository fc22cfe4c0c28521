// Exactly-once charges a hundred orders. The worker is a process of its own, which
// kills itself each time between the effect, a row in a ledger, and the response to
// Cloud Tasks; every tenth order also before the commit. Each task is delivered
// again, and the ledger has one row for each order.
//
//	go run -C examples/exactly-once .
//
// Effect and mark are one commit of [sqlstore.DB.Run]. The database is a file of
// SQLite. Cloud Tasks (the emulator) runs in the parent.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
)

// workerEnv makes this program the worker. It holds the path of the database.
const workerEnv = "EXACTLY_ONCE_WORKER"

func main() {
	if path := os.Getenv(workerEnv); path != "" {
		exit(work(path))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	exit(run(ctx, os.Stdout, 100))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run charges the orders and checks the ledger.
func run(ctx context.Context, out io.Writer, orders int) error {
	dir, err := os.MkdirTemp("", "exactly-once")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "ledger.db")
	pool, db, err := open(path)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	if _, err := pool.ExecContext(ctx, `CREATE TABLE ledger (customer_order INTEGER, cents INTEGER)`); err != nil {
		return err
	}
	w := &worker{path: path}
	inside, err := w.charge(ctx, out, orders)
	if err != nil {
		return err
	}
	var rows, charged int
	err = pool.QueryRowContext(ctx, `SELECT count(*), count(DISTINCT customer_order) FROM ledger`).Scan(&rows, &charged)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%d orders, %d kills: %d before a response, %d before a commit\n%d charges, of %d orders\n",
		orders, w.kills.Load(), int(w.kills.Load())-inside, inside, rows, charged)
	if rows != orders || charged != orders || int(w.kills.Load()) != orders+inside {
		return errors.New("exactly-once: the orders were not charged as they should be")
	}
	return nil
}

// worker is the process that has the router, one after the other.
type worker struct {
	path  string // of the database
	addr  atomic.Pointer[string]
	kills atomic.Int64
}

// charge enqueues the orders one by one, while the worker is started again whenever it
// dies. It returns how often it is to die before a commit.
func (w *worker) charge(ctx context.Context, out io.Writer, orders int) (inside int, err error) {
	tasks, err := emulator.New(emulator.Config{CreateMissingQueues: true, Handler: w.proxy()})
	if err != nil {
		return 0, err
	}
	defer tasks.Close()
	client, err := handoff.NewClient(ctx, handoff.ClientConfig{
		Project: "shop", Location: "l", Options: tasks.ClientOptions(),
		Target: handoff.HTTPTarget{URL: "http://worker.internal/tasks", DangerouslySendUnsigned: true}, // an example
	})
	if err != nil {
		return 0, err
	}
	defer client.Close()

	ctx, cancel := context.WithCancelCause(ctx)
	var starts sync.WaitGroup
	defer starts.Wait()
	defer cancel(nil)
	starts.Go(func() { cancel(w.keepRunning(ctx)) })
	for order := range orders {
		charge := Charge{Order: order, Cents: 990}
		if charge.diesInside() {
			inside++
		}
		if _, err := client.Enqueue(ctx, charge); err != nil {
			return 0, err
		}
		if err := tasks.Wait(ctx); err != nil { // until the task is gone
			return 0, context.Cause(ctx)
		}
		fmt.Fprintf(out, "\r%d of %d orders, %d kills", order+1, orders, w.kills.Load())
	}
	return inside, nil
}

// proxy sends the dispatches to the worker that runs.
func (w *worker) proxy() http.Handler {
	nowhere := "127.0.0.1:0"
	w.addr.Store(&nowhere)
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: *w.addr.Load()})
		},
		ErrorHandler: func(rw http.ResponseWriter, _ *http.Request, _ error) { rw.WriteHeader(http.StatusBadGateway) },
	}
}

// keepRunning starts the worker whenever it has died, until ctx ends.
func (w *worker) keepRunning(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := w.runOnce(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// runOnce returns nil when the worker was killed, and counts that.
func (w *worker) runOnce(ctx context.Context) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(os.Environ(), workerEnv+"="+w.path)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return errors.Join(fmt.Errorf("exactly-once: the worker did not start: %w", err), cmd.Wait())
	}
	addr := strings.TrimSpace(line)
	w.addr.Store(&addr)
	_ = cmd.Wait() // its error says what the state does
	if cmd.ProcessState.Exited() {
		return fmt.Errorf("exactly-once: the worker ended by itself: %v", cmd.ProcessState)
	}
	if ctx.Err() == nil { // not by the parent, which is done
		w.kills.Add(1)
	}
	return nil
}
