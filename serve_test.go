package handoff_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/memstore"
)

// TestServeProcess is the process that TestServeStops sends a signal to.
func TestServeProcess(t *testing.T) {
	mode := os.Getenv("HANDOFF_TEST_SERVE")
	if mode == "" {
		t.Skip("started by TestServeStops")
	}
	router, err := handoff.NewRouter(handoff.RouterConfig{
		DangerouslyAllowUnauthenticated: true, Store: memstore.New(), DeadLetters: memstore.NewDeadLetters(), Logger: slog.New(slog.DiscardHandler),
	})
	assert.NoError(t, err)
	finish := make(chan struct{})
	handoff.Handle(router, func(ctx context.Context, _ note) error {
		fmt.Println("running")
		if mode == "finishes" {
			<-finish
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	})
	mux := http.NewServeMux()
	mux.Handle("/tasks/", router)
	mux.HandleFunc("/finish", func(http.ResponseWriter, *http.Request) { close(finish) })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NoError(t, err)
	fmt.Println("address", listener.Addr())
	config := handoff.ServeConfig{Router: router, Handler: mux, Listener: listener}
	if mode != "finishes" {
		config.Drain = time.Millisecond
	}
	assert.NoError(t, handoff.Serve(context.Background(), config))
	fmt.Println("ended well")
}

// A process that gets SIGTERM refuses new deliveries. It lets running ones finish,
// or interrupts them when the grace period has ended, sends the responses of both,
// and exits.
func TestServeStops(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]int{"finishes": 200, "is interrupted": 500} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestServeProcess$")
			cmd.Env = append(os.Environ(), "HANDOFF_TEST_SERVE="+mode)
			out, err := cmd.StdoutPipe()
			assert.NoError(t, err)
			assert.NoError(t, cmd.Start())
			lines := bufio.NewScanner(out)
			url := "http://" + strings.TrimPrefix(lineWith(t, lines, "address "), "address ")

			status := make(chan int, 1)
			go func() { status <- post(url + "/tasks/note") }()
			lineWith(t, lines, "running")
			assert.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
			if mode == "finishes" {
				assert.Eventually(t, 30*time.Second, func() bool { code, _ := get(url + "/ready"); return code == 503 }, "not ready")
				_, text := get(url + "/ready")
				assert.Equal(t, text, "not ready: shutting down\n")
				code, _ := get(url + "/healthz")
				assert.Status(t, code, 200)
				assert.Status(t, post(url+"/tasks/note"), 500) // a new delivery
				_, _ = get(url + "/finish")
			}
			assert.Status(t, <-status, want)
			lineWith(t, lines, "ended well")
			_, _ = io.Copy(io.Discard, out)
			assert.NoError(t, cmd.Wait())
		})
	}
}

func lineWith(t *testing.T, lines *bufio.Scanner, prefix string) string {
	t.Helper()
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), prefix) {
			return lines.Text()
		}
	}
	t.Fatalf("the process printed no line with %q: %v", prefix, lines.Err())
	return ""
}

func post(url string) int {
	req := task{kind: "note", name: fmt.Sprint("t", time.Now().UnixNano()), body: `{}`}.request()
	out, _ := http.NewRequest(http.MethodPost, url, req.Body)
	out.Header = req.Header
	return codeOf(http.DefaultTransport.RoundTrip(out))
}

func get(url string) (int, string) {
	resp, err := http.Get(url)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

func codeOf(resp *http.Response, err error) int {
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// /ready names the checks that fail, but does not show their errors.
func TestServeReady(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	handoff.Handle(b.Router, func(context.Context, note) error { return nil })
	e := echo.New()
	b.Mount(e.Group("/tasks"))
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	assert.NoError(t, err)
	down := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- handoff.Serve(ctx, handoff.ServeConfig{
			Router: b.Router, Handler: e, Listener: listener,
			Ready: map[string]func(context.Context) error{
				"redis": func(context.Context) error {
					select {
					case <-down:
						return errors.New("dial 10.0.0.7: refused")
					default:
						return nil
					}
				},
				"queue": func(context.Context) error {
					select {
					case <-down:
						panic("no queue")
					default:
						return nil
					}
				},
				"disk": func(context.Context) error {
					select {
					case <-down:
						runtime.Goexit()
					default:
					}
					return nil
				},
				"late": func(ctx context.Context) error { // as a client that ignores its context
					select {
					case <-down:
						<-ctx.Done()
					default:
					}
					return nil
				},
			},
		})
	}()
	url := "http://" + listener.Addr().String()
	code, text := get(url + "/ready")
	assert.Equal(t, fmt.Sprint(code, " ", text), "200 ready\n")
	assert.Status(t, post(url+"/tasks/note"), 200)
	close(down)
	code, text = get(url + "/ready")
	assert.Equal(t, fmt.Sprint(code, " ", text), "503 not ready: disk, late, queue, redis\n")
	if log := b.log.String(); !strings.Contains(log, "10.0.0.7") || !strings.Contains(log, "no queue") {
		t.Errorf("the log does not say why: %s", log)
	}
	stop()
	assert.NoError(t, <-ended)
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// Anyone may ask /ready, and each check that fails is logged once a second at most.
func TestReadyDoesNotFillTheLog(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	assert.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- handoff.Serve(ctx, handoff.ServeConfig{
			Router: b.Router, Listener: listener,
			Ready: map[string]func(context.Context) error{"redis": func(context.Context) error { return errBoom }},
		})
	}()
	start := time.Now()
	for range 30 {
		code, _ := get("http://" + listener.Addr().String() + "/ready")
		assert.Status(t, code, 503)
	}
	lines := strings.Count(b.log.String(), "not ready")
	if most := 1 + int(time.Since(start)/time.Second); lines < 1 || lines > most {
		t.Errorf("%d lines in %s", lines, time.Since(start))
	}
	stop()
	assert.NoError(t, <-ended)
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// A task whose URL ends like the path of a check is run by its handler, not
// acknowledged by the check.
func TestServeTakesNoTaskForACheck(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	ran := make(chan string, 2)
	for _, kind := range []string{"ready", "healthz"} {
		_ = b.Raw(kind, func(ctx context.Context, _ *http.Request) error {
			ran <- handoff.InfoFromContext(ctx).Kind
			return errors.New("not done")
		})
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	assert.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- handoff.Serve(ctx, handoff.ServeConfig{Router: b.Router, Listener: listener}) }()
	url := "http://" + listener.Addr().String()
	for _, kind := range []string{"ready", "healthz"} {
		assert.Status(t, post(url+"/"+kind), 500)
		assert.Equal(t, <-ran, kind)
		code, _ := get(url + "/" + kind)
		assert.Status(t, code, 200)
	}
	stop()
	assert.NoError(t, <-ended)
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

func TestServeMistakes(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	assert.NoError(t, err)
	defer listener.Close()
	err = handoff.Serve(t.Context(), handoff.ServeConfig{
		Addr: ":1", Listener: listener, Drain: -1, Ready: map[string]func(context.Context) error{"redis": nil},
	})
	assert.ErrorContains(t, err, "ServeConfig.Router is nil", "ServeConfig.Drain is -1ns", "Listener and Addr are both set", `Ready["redis"] is nil`)
	b := newFixture(t, nil)
	err = handoff.Serve(t.Context(), handoff.ServeConfig{Router: b.Router, Addr: listener.Addr().String()})
	assert.ErrorContains(t, err, "handoff: serve: ", "in use")
}
