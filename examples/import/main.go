// Import reads a million rows in one task, with package steps. The worker is a
// process of its own, which is killed several times and started again; the import
// goes on behind the last part that it saved.
//
//	go run ./examples/import
//
// Cloud Tasks (the emulator) and the Redis (embedded) run in the parent, so that
// they outlive the worker, as they do in production.
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
	"sync/atomic"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
)

// workerEnv makes this program the worker. It holds the address of the Redis and
// of the emulator.
const workerEnv = "IMPORT_WORKER"

func main() {
	if addrs := os.Getenv(workerEnv); addrs != "" {
		exit(work(addrs))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	exit(run(ctx, os.Stdout, Import{Rows: 1_000_000, Part: 10_000, Pause: 50 * time.Millisecond}, 3))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run imports the rows, kills the worker this many times meanwhile, and checks
// what was imported.
func run(ctx context.Context, out io.Writer, p Import, kills int) error {
	dir, err := os.MkdirTemp("", "import")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p.Dir = dir
	if err := writeSample(filepath.Join(dir, "in.csv"), p.Rows); err != nil {
		return err
	}
	rdb, err := miniredis.Run()
	if err != nil {
		return err
	}
	defer rdb.Close()
	w := &worker{redis: rdb.Addr()}
	tasks, err := emulator.New(emulator.Config{GRPCAddr: "127.0.0.1:0", CreateMissingQueues: true, Handler: w.proxy()})
	if err != nil {
		return err
	}
	defer tasks.Close()
	w.tasks = tasks.GRPCAddr()
	if err := w.start(ctx); err != nil {
		return err
	}
	defer w.kill()
	client, err := handoff.NewClient(ctx, handoff.ClientConfig{
		Project: "import", Location: "l", Options: tasks.ClientOptions(), Target: target,
	})
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := client.Enqueue(ctx, p); err != nil {
		return err
	}
	if err := watch(ctx, out, tasks, rdb, w, p, kills); err != nil {
		return err
	}
	return report(out, p, kills)
}

// watch shows the progress until the task has ended, and kills the worker at even
// distances.
func watch(ctx context.Context, out io.Writer, tasks *emulator.Server, rdb *miniredis.Miniredis, w *worker, p Import, kills int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- tasks.Wait(ctx) }() // ends with ctx
	const tick = 20 * time.Millisecond
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for killed := 0; ; {
		select {
		case err := <-ended:
			fmt.Fprintln(out, "\r"+bar(p.Rows, p.Rows))
			if err == nil && killed < kills {
				err = fmt.Errorf("import: ended after %d kills of %d", killed, kills)
			}
			return err
		case <-ticker.C:
			rdb.FastForward(tick) // its time does not pass by itself
		}
		parts, err := p.parts()
		if err != nil {
			return err
		}
		done := 0
		if len(parts) > 0 {
			done = parts[len(parts)-1].To
		}
		fmt.Fprint(out, "\r"+bar(done, p.Rows))
		if killed < kills && done >= (killed+1)*p.Rows/(kills+1) {
			killed++
			w.kill()
			fmt.Fprintf(out, "\nworker killed near row %d\n", done)
			if err := w.start(ctx); err != nil {
				return err
			}
		}
	}
}

func bar(done, total int) string {
	const width = 40
	n := width * done / total
	return fmt.Sprintf("[%s%s] %3d%%", strings.Repeat("#", n), strings.Repeat(".", width-n), 100*done/total)
}

// worker is the process that has the router.
type worker struct {
	redis, tasks string
	addr         atomic.Pointer[string]
	cmd          *exec.Cmd
}

// proxy sends the dispatches to the worker that runs.
func (w *worker) proxy() http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: *w.addr.Load()})
		},
		ErrorHandler: func(rw http.ResponseWriter, _ *http.Request, _ error) { rw.WriteHeader(http.StatusBadGateway) },
	}
}

func (w *worker) start(ctx context.Context) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	w.cmd = exec.CommandContext(ctx, program)
	w.cmd.Env = append(os.Environ(), workerEnv+"="+w.redis+" "+w.tasks)
	w.cmd.Stderr = os.Stderr
	stdout, err := w.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := w.cmd.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		w.kill()
		return fmt.Errorf("import: the worker did not start: %w", err)
	}
	addr := strings.TrimSpace(line)
	w.addr.Store(&addr)
	return nil
}

// kill ends the worker by SIGKILL: it has no time to save anything.
func (w *worker) kill() {
	_ = w.cmd.Process.Kill()
	_ = w.cmd.Wait()
}

// report reads what was imported, and prints how often.
func report(out io.Writer, p Import, kills int) error {
	parts, err := p.parts()
	if err != nil {
		return err
	}
	written := 0
	for _, part := range parts {
		written += part.To - part.From
	}
	wrong, err := p.compare()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d rows imported, %d missing or wrong\n%d parts, %d kills, %d rows repeated (at most %d)\n",
		p.Rows-wrong, wrong, len(parts), kills, written-p.Rows, kills*p.Part)
	if wrong > 0 || written < p.Rows || written-p.Rows > kills*p.Part {
		return errors.New("import: the rows were not imported as they should be")
	}
	return nil
}
