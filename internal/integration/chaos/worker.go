package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/redisstore"
	"github.com/redis/go-redis/v9"
)

// What a worker process is told through its environment.
const (
	envRole  = "CHAOS_ROLE" // one of the roles below, or unset
	envDir   = "CHAOS_DIR"
	envStore = "CHAOS_STORE" // host:port of Redis or PostgreSQL
	envURL   = "CHAOS_URL"

	roleWorker    = "worker"
	roleSQLWorker = "sql-worker"
)

const (
	lease   = 2 * time.Second
	maxRun  = 4 * time.Second
	account = "tasks@chaos.iam.gserviceaccount.com"
)

// worker is one process that receives tasks, as a service would be.
type worker struct {
	ledger *ledger
	runs   atomic.Int64
}

// asWorker runs the worker that this process is to be, if any.
func asWorker() bool {
	switch os.Getenv(envRole) {
	case roleWorker:
		exitOn(workerMain())
	case roleSQLWorker:
		exitOn(sqlWorkerMain())
	default:
		return false
	}
	return true
}

// workerMain runs until SIGTERM, and then drains. It writes its address as the
// first line of its standard output.
func workerMain() error {
	goroutines := runtime.NumGoroutine()
	dir := os.Getenv(envDir)
	ledger, err := openLedger(filepath.Join(dir, "ledger-"+strconv.Itoa(os.Getpid())))
	if err != nil {
		return err
	}
	w := &worker{ledger: ledger}
	log, err := os.OpenFile(filepath.Join(dir, "workers.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	rdb := redis.NewClient(&redis.Options{
		Addr: os.Getenv(envStore), ContextTimeoutEnabled: true,
		DialTimeout: time.Second, ReadTimeout: time.Second, WriteTimeout: time.Second,
	})
	router, client, err := w.newRouter(rdb, dir, log)
	if err != nil {
		return err
	}
	handoff.Handle(router, w.handle)
	handoff.Handle(router, func(ctx context.Context, j sharedJob) error { return w.handle(ctx, j.job) })
	handoff.Handle(router, w.handleLong)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: w.name(router), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(slog.NewTextHandler(log, nil), slog.LevelWarn)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	term, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	fmt.Println(listener.Addr())
	<-term.Done()
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	err = errors.Join(router.Shutdown(ctx), server.Shutdown(context.WithoutCancel(ctx)))
	<-served
	err = errors.Join(err, client.Close(), rdb.Close())
	w.ledger.write(event{What: evDrained, N: leftOver(goroutines)})
	return errors.Join(err, ledger.close())
}

// drainTime is what is left of Cloud Run's 10 s after a margin.
const drainTime = 8 * time.Second

// leftOver counts goroutines beyond those that were there at first, giving
// connections a moment to end. The signal handler's own is one.
func leftOver(before int) int {
	deadline := time.Now().Add(2 * time.Second)
	for runtime.NumGoroutine() > before+1 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	return max(0, runtime.NumGoroutine()-before-1)
}

func (w *worker) newRouter(rdb *redis.Client, dir string, log io.Writer) (*handoff.Router, *handoff.Client, error) {
	jwks, err := os.ReadFile(filepath.Join(dir, "jwks.json"))
	if err != nil {
		return nil, nil, err
	}
	url := os.Getenv(envURL)
	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{url}, Callers: []string{account}, Keys: handoff.StaticKeys(jwks),
	})
	if err != nil {
		return nil, nil, err
	}
	client, err := newClient(url, nil) // CLOUD_TASKS_EMULATOR_HOST says where
	if err != nil {
		return nil, nil, err
	}
	router, err := handoff.NewRouter(handoff.RouterConfig{
		Verifier:    verifier,
		Store:       recordingStore{redisstore.New(rdb, nil), w.ledger},
		DeadLetters: recordingLetters{redisstore.NewDeadLetters(rdb, nil), w.ledger},
		Client:      client,
		Lease:       lease,
		MaxRun:      maxRun,
		Observers:   []handoff.Observer{{End: w.ended}},
		Logger:      slog.New(slog.NewTextHandler(log, nil)),
	})
	return router, client, err
}

// run is one delivery of one piece of work, as the ledger knows it.
type run struct {
	id, name, task string
	red, gen       int
}

type runKey struct{}

func runOf(ctx context.Context) run {
	r, _ := ctx.Value(runKey{}).(run)
	return r
}

func (r run) event(what string) event {
	return event{What: what, ID: r.id, Run: r.name, Task: r.task, Red: r.red, Gen: r.gen}
}

// name gives each delivery its name.
func (w *worker) name(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		h := req.Header
		r := run{id: h.Get(headerWork), task: h.Get("X-Cloudtasks-Taskname"), name: fmt.Sprintf("%d-%d", os.Getpid(), w.runs.Add(1))}
		r.gen, _ = strconv.Atoi(h.Get("Handoff-Generation"))
		r.red, _ = strconv.Atoi(h.Get("Handoff-Redrives"))
		next.ServeHTTP(rw, req.WithContext(context.WithValue(req.Context(), runKey{}, r)))
	})
}

// ended notes how a delivery ended.
func (w *worker) ended(ctx context.Context, d handoff.Delivery) {
	e := runOf(ctx).event(evAnswered)
	e.Out = d.Outcome.String()
	w.ledger.write(e)
}

func (w *worker) handle(ctx context.Context, j job) (err error) {
	r, info := runOf(ctx), handoff.InfoFromContext(ctx)
	start := r.event(evStart)
	start.Tok, start.Att = info.FencingToken, info.Attempt
	w.ledger.write(start)
	told := context.AfterFunc(ctx, func() {
		if errors.Is(context.Cause(ctx), handoff.ErrLeaseLost) {
			w.ledger.write(r.event(evLost))
		}
	})
	defer func() {
		told()
		end := r.event(evEnd)
		end.Out = handoff.OutcomeOf(err).String()
		w.ledger.write(end)
	}()
	if !pause(ctx, j.Work) {
		return context.Cause(ctx)
	}
	return w.act(ctx, r, info, j)
}

func (w *worker) act(ctx context.Context, r run, info handoff.Info, j job) error {
	first := info.Attempt == 1
	switch j.Act {
	case actFailAlways:
		if r.red == 0 {
			return errors.New("fails always")
		}
	case actPermanent:
		if r.red == 0 {
			return handoff.Permanent(errors.New("permanent"))
		}
	case actDrop:
		return handoff.Drop(nil)
	case actPoison:
		die()
	case actSnooze:
		if info.Snoozes == 0 {
			return handoff.Snooze(time.Second)
		}
	case actFail:
		if first {
			return errors.New("fails once")
		}
	case actPanic:
		if first {
			panic("panics once")
		}
	case actHang:
		if first {
			<-ctx.Done()
			time.Sleep(300 * time.Millisecond) // and does not listen
			return context.Cause(ctx)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	effect := r.event(evEffect)
	effect.Tok = info.FencingToken
	w.ledger.write(effect)
	if j.Act == actCrash && first {
		die()
	}
	return nil
}

// die ends the process as an out-of-memory killer would.
func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // until the signal arrives
}

// pause waits, and reports whether it did so before ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
