package emulator_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/api/idtoken"
	"google.golang.org/api/option"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

// Every problem is reported at once, with its field.
func TestBadConfig(t *testing.T) {
	t.Parallel()
	_, err := emulator.New(emulator.Config{
		Handler:   http.NotFoundHandler(),
		Transport: http.DefaultTransport,
		Retention: -time.Second,
		AppEngine: map[string]string{"default": "localhost:8080"},

		DefaultURL: "http://localhost/{function}",
	})
	assert.ErrorContains(t, err, `Config.DefaultURL is "http://localhost/{function}"`, "Config.Handler and Config.Transport", "Config.Retention is -1s", `Config.AppEngine["default"] is "localhost:8080"`)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NoError(t, err)
	defer l.Close()
	_, err = emulator.New(emulator.Config{GRPCAddr: l.Addr().String()})
	assert.ErrorContains(t, err, "emulator: Config.GRPCAddr: ", "address already in use")
	_, err = emulator.New(emulator.Config{HTTPAddr: l.Addr().String()})
	assert.ErrorContains(t, err, "emulator: Config.HTTPAddr: ", "address already in use")
}

// recordingT is a test that RunT fails.
type recordingT struct {
	failure  string
	cleanups []func()
}

func (r *recordingT) Helper()          {}
func (r *recordingT) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recordingT) Fatalf(format string, args ...any) {
	r.failure = strings.TrimSpace(format)
	panic(r)
}

func TestRunTFails(t *testing.T) {
	t.Parallel()
	r := &recordingT{}
	func() {
		defer func() { _ = recover() }()
		emulator.RunT(r, emulator.Config{Retention: -1})
	}()
	assert.Equal(t, r.failure, "%v")
	assert.Equal(t, len(r.cleanups), 0)
}

// Close cancels the dispatches in flight, waits for their handlers, and can be repeated.
func TestClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, emulator.Config{})
		var cause error
		s.worker.before = func(_ int, r *http.Request) {
			<-r.Context().Done()
			time.Sleep(time.Minute) // a handler that takes its time
			cause = r.Context().Err()
		}
		s.create()
		s.create(inAnHour)
		synctest.Wait()
		start := time.Now()
		s.srv.Close()
		assert.Equal(t, time.Since(start), time.Minute)
		assert.ErrorIs(t, cause, context.Canceled)
		s.srv.Close()
		_, err := s.tryCreate()
		assert.Equal(t, status.Code(err), codes.Unavailable)
	})
}

// Wait returns when a chain of tasks, each creating the next in another
// queue, has come to its end, and not before.
func TestWaitFollowsTasksAcrossQueues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, emulator.Config{})
		s.createQueue(&cloudtaskspb.Queue{Name: location + "/queues/a"})
		s.createQueue(&cloudtaskspb.Queue{Name: location + "/queues/z"})
		s.worker.before = func(n int, _ *http.Request) {
			if n < 50 {
				_, err := s.client.CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{
					Parent: location + "/queues/" + []string{"a", "emails", "z"}[n%3],
					Task: &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_HttpRequest{
						HttpRequest: &cloudtaskspb.HttpRequest{Url: "http://worker.example/"},
					}},
				})
				if err != nil {
					t.Error(err)
				}
			}
		}
		s.create()
		s.wait()
		assert.Equal(t, len(s.worker.deliveries()), 50)
	})
}

func TestWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, emulator.Config{})
		s.pause()
		s.create()
		s.wait() // a paused queue is settled
		s.resume()
		s.wait()
		assert.Equal(t, len(s.worker.deliveries()), 1)

		s.create(inAnHour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		assert.ErrorIs(t, s.srv.Wait(ctx), context.DeadlineExceeded)
		start := time.Now()
		go func() {
			time.Sleep(time.Minute)
			_ = s.client.DeleteQueue(t.Context(), &cloudtaskspb.DeleteQueueRequest{Name: emails})
		}()
		s.wait() // the deletion settles it
		assert.Equal(t, time.Since(start), time.Minute)
	})
}

// If a handler panics, the dispatch fails as if the connection had broken. The panic
// is logged, unless it is http.ErrAbortHandler.
func TestHandlerPanics(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		do     func(http.ResponseWriter)
		logged bool
	}{
		"a panic":              {func(http.ResponseWriter) { panic("oops") }, true},
		"after a 200":          {func(w http.ResponseWriter) { w.WriteHeader(http.StatusOK); panic("oops") }, true},
		"http.ErrAbortHandler": {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				calls := 0
				s := begin(t, emulator.Config{
					Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError})),
					Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
						if calls++; calls == 1 {
							row.do(w)
						}
					}),
				})
				task := s.create()
				s.wait()
				dispatches := s.srv.Dispatches(task.GetName())
				assert.Equal(t, len(dispatches), 2)
				assert.Equal(t, dispatches[0].Status, 0)
				assert.Equal(t, strings.Contains(log.String(), "oops"), row.logged)
			})
		})
	}
}

// A response that is not final ends the dispatch at once, although its body does not
// end.
func TestOddStatuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		status := 0
		s := begin(t, emulator.Config{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			body, _ := io.Pipe()
			return &http.Response{StatusCode: status, Body: body, Request: r}, nil
		})})
		s.update(&cloudtaskspb.Queue{RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: 1}})
		start := time.Now()
		for code, failure := range map[int]string{0: "malformed HTTP status code 000", http.StatusSwitchingProtocols: ""} {
			status = code
			task := s.create()
			s.wait()
			dispatches := s.srv.Dispatches(task.GetName())
			assert.Equal(t, len(dispatches), 1)
			assert.Equal(t, dispatches[0].Status, code)
			assert.Equal(t, dispatches[0].Err, failure)
		}
		assert.Equal(t, time.Since(start), 0)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Over real sockets: the request and its token, and what a broken connection
// looks like.
func TestNetwork(t *testing.T) {
	t.Parallel()
	const account, audience = "worker@p.iam.gserviceaccount.com", "https://worker.example"
	var mu sync.Mutex
	var tokens []string
	calls := 0
	target := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		calls++
		if body, err := io.ReadAll(r.Body); err != nil || string(body) != "hello" || r.ContentLength != 5 {
			t.Errorf("body %q, length %d, %v", body, r.ContentLength, err)
		}
		if got := r.Header.Get("Accept-Encoding"); got != "gzip,deflate,br" {
			t.Errorf("Accept-Encoding %q", got)
		}
		if r.Header["Content-Type"] != nil {
			t.Errorf("Content-Type %q", r.Header["Content-Type"])
		}
		tokens = append(tokens, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		if calls == 1 {
			panic(http.ErrAbortHandler)
		}
	}))
	defer target.Close()
	srv := emulator.RunT(t, emulator.Config{GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0"})
	client := cloudtaskspb.NewCloudTasksClient(srv.Conn())
	_, err := client.CreateQueue(t.Context(), &cloudtaskspb.CreateQueueRequest{Parent: location, Queue: &cloudtaskspb.Queue{Name: emails}})
	assert.NoError(t, err)
	task, err := client.CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: emails, Task: &cloudtaskspb.Task{
		MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
			Url:  target.URL + "/x",
			Body: []byte("hello"),
			AuthorizationHeader: &cloudtaskspb.HttpRequest_OidcToken{
				OidcToken: &cloudtaskspb.OidcToken{ServiceAccountEmail: account, Audience: audience},
			},
		}},
	}})
	assert.NoError(t, err)
	assert.NoError(t, srv.Wait(t.Context()))
	dispatches := srv.Dispatches(task.GetName())
	assert.Equal(t, len(dispatches), 2)
	assert.Equal(t, dispatches[0].Status, 0)
	assert.Equal(t, dispatches[1].Status, 200)

	// Google's own library, with the keys of this server in place of Google's.
	validator, err := idtoken.NewValidator(t.Context(), option.WithHTTPClient(&http.Client{Transport: keys{srv}}))
	assert.NoError(t, err)
	minted, err := srv.Token(account, audience)
	assert.NoError(t, err)
	for _, token := range append(tokens, minted) {
		payload, err := validator.Validate(t.Context(), token, audience)
		assert.NoError(t, err)
		assert.Equal(t, payload.Claims["email"], any(account))
	}
	forged, err := srv.Token(account, audience, func(claims map[string]any) { claims["exp"] = time.Now().Add(-time.Minute).Unix() })
	assert.NoError(t, err)
	_, err = validator.Validate(t.Context(), forged, audience)
	assert.ErrorContains(t, err, "token expired")
}

// keys responds to every request with the keys of a server.
type keys struct{ srv *emulator.Server }

func (k keys) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.String() != "https://www.googleapis.com/oauth2/v3/certs" {
		return nil, errors.New("asked for " + r.URL.String())
	}
	rec := httptest.NewRecorder()
	_, _ = rec.Write(k.srv.JWKS())
	return rec.Result(), nil
}

// An App Engine task goes to the configured address, with its own host. Without an
// address its dispatch fails, and never reaches Google.
func TestAppEngineAddresses(t *testing.T) {
	t.Parallel()
	hosts := make(chan string, 1)
	target := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { hosts <- r.Host + r.URL.RequestURI() }))
	defer target.Close()
	srv := emulator.RunT(t, emulator.Config{AppEngine: map[string]string{"worker/v2": target.URL + "/"}})
	client := cloudtaskspb.NewCloudTasksClient(srv.Conn())
	_, err := client.CreateQueue(t.Context(), &cloudtaskspb.CreateQueueRequest{Parent: location, Queue: &cloudtaskspb.Queue{
		Name: emails, RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: 1},
	}})
	assert.NoError(t, err)
	send := func(version string) string {
		task, err := client.CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: emails, Task: &cloudtaskspb.Task{
			MessageType: &cloudtaskspb.Task_AppEngineHttpRequest{AppEngineHttpRequest: &cloudtaskspb.AppEngineHttpRequest{
				RelativeUri:      "/run?x=1",
				AppEngineRouting: &cloudtaskspb.AppEngineRouting{Service: "worker", Version: version},
			}},
		}})
		assert.NoError(t, err)
		assert.NoError(t, srv.Wait(t.Context()))
		return task.GetName()
	}
	send("v2")
	assert.Equal(t, <-hosts, "v2.worker.p.uc.r.appspot.com/run?x=1")
	dispatches := srv.Dispatches(send("v1"))
	assert.Equal(t, dispatches[0].Status, 0)
	assert.Equal(t, dispatches[0].Err, `emulator: no address is configured for App Engine service "worker"`)
}
