package main_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff/internal/assert"
)

const emails = "projects/p/locations/l/queues/emails"

// program is the path of the program under test.
var program string

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "handoff")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program = filepath.Join(dir, "handoff")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("building the program: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// process is a running emulator.
type process struct {
	cmd    *exec.Cmd
	ready  string // the ready line it printed
	grpc   string
	http   string
	stdout io.Reader
	stderr *strings.Builder
}

var readyLine = regexp.MustCompile(`^handoff emulator: ready, gRPC on (127\.0\.0\.1:\d+), HTTP on (127\.0\.0\.1:\d+)\n$`)

// start runs the emulator on free ports and waits for its ready line.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{stderr: new(strings.Builder)}
	p.cmd = exec.Command(program, append([]string{"emulator", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"}, args...)...)
	p.cmd.Stderr = p.stderr
	stdout, err := p.cmd.StdoutPipe()
	assert.NoError(t, err)
	assert.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // needed only if the test failed; otherwise it has ended
		_ = p.cmd.Wait()
	})
	reader := bufio.NewReader(stdout)
	p.stdout = reader
	p.ready, err = reader.ReadString('\n')
	if err != nil {
		t.Fatalf("no line on stdout: %v; stderr: %s", err, p.stderr)
	}
	match := readyLine.FindStringSubmatch(p.ready)
	if match == nil {
		t.Fatalf("ready line %q", p.ready)
	}
	p.grpc, p.http = match[1], match[2]
	return p
}

// end sends a signal. It returns what the process printed after its first line, and
// how it ended.
func (p *process) end(t *testing.T, signal os.Signal) (string, error) {
	t.Helper()
	assert.NoError(t, p.cmd.Process.Signal(signal))
	rest, err := io.ReadAll(p.stdout)
	assert.NoError(t, err)
	return string(rest), p.cmd.Wait()
}

// awaitStopping returns when the emulator has begun to stop. The test must keep a
// dispatch in flight, so that the emulator does not end before.
func (p *process) awaitStopping(t *testing.T) {
	t.Helper()
	assert.Eventually(t, 10*time.Second, func() bool {
		resp, err := http.Get("http://" + p.http + "/healthz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusServiceUnavailable
	}, "the emulator to be stopping")
}

func (p *process) client(t *testing.T) *cloudtasks.Client {
	t.Helper()
	client, err := cloudtasks.NewClient(t.Context(), option.WithEndpoint(p.grpc), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	assert.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// fail runs the program and returns what it said before it failed.
func fail(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	stderr := new(strings.Builder)
	cmd.Stderr = stderr
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() <= 0 {
		t.Fatalf("ended with %v, want a failure; stdout: %s", err, out)
	}
	assert.Equal(t, string(out), "")
	return stderr.String()
}

func TestBothAPIsServe(t *testing.T) {
	t.Parallel()
	p := start(t, "--queue", emails, "--queue", "projects/p/locations/l/queues/other")
	client := p.client(t)
	q, err := client.GetQueue(t.Context(), &cloudtaskspb.GetQueueRequest{Name: emails})
	assert.NoError(t, err)
	assert.Equal(t, q.GetState(), cloudtaskspb.Queue_RUNNING)

	resp, err := http.Get("http://" + p.http + "/v2/projects/p/locations/l/queues/other")
	assert.NoError(t, err)
	defer resp.Body.Close()
	assert.Status(t, resp.StatusCode, http.StatusOK)
}

func TestSignalsEndIt(t *testing.T) {
	t.Parallel()
	for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p := start(t)
		rest, err := p.end(t, signal)
		assert.NoError(t, err)
		assert.Equal(t, rest+p.stderr.String(), "")
	}
}

// TestSignalDrains: after SIGTERM the dispatch in flight may finish, and the next
// task is not dispatched.
func TestSignalDrains(t *testing.T) {
	t.Parallel()
	arrived, respond := make(chan string, 2), make(chan struct{})
	worker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- r.URL.Path
		select {
		case <-respond:
		case <-r.Context().Done():
			arrived <- "cut off"
		}
	}))
	defer worker.Close()

	p := start(t)
	client := p.client(t)
	_, err := client.CreateQueue(t.Context(), &cloudtaskspb.CreateQueueRequest{
		Parent: "projects/p/locations/l",
		Queue:  &cloudtaskspb.Queue{Name: emails, RateLimits: &cloudtaskspb.RateLimits{MaxConcurrentDispatches: 1}},
	})
	assert.NoError(t, err)
	for _, path := range []string{"/first", "/second"} {
		_, err = client.CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: emails, Task: &cloudtaskspb.Task{
			MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{Url: worker.URL + path}},
		}})
		assert.NoError(t, err)
	}
	first := <-arrived
	assert.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	p.awaitStopping(t)
	close(respond)
	assert.NoError(t, p.cmd.Wait())
	close(arrived)
	for more := range arrived {
		t.Fatalf("after %s also %s", first, more)
	}
}

// TestWaitDuringAStop: a wait that begins during a stop reports the tasks that are
// left. emulator.TestWaitOverHTTP tests a wait that began before.
func TestWaitDuringAStop(t *testing.T) {
	t.Parallel()
	arrived, respond := make(chan struct{}, 1), make(chan struct{})
	worker := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-respond
	}))
	defer worker.Close()
	p := start(t, "--queue", emails)
	client := p.client(t)
	later := httpTask(worker.URL)
	later.Task.ScheduleTime = timestamppb.New(time.Now().Add(time.Hour))
	for _, task := range []*cloudtaskspb.CreateTaskRequest{httpTask(worker.URL), later} {
		_, err := client.CreateTask(t.Context(), task)
		assert.NoError(t, err)
	}
	<-arrived
	assert.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	p.awaitStopping(t)
	resp, err := http.Get("http://" + p.http + "/emulator/wait?timeout=1ms")
	assert.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	assert.NoError(t, errors.Join(err, resp.Body.Close()))
	assert.Status(t, resp.StatusCode, http.StatusRequestTimeout)
	assert.Equal(t, string(body), `{"settled":false,"left":2}`+"\n")
	close(respond)
	assert.NoError(t, p.cmd.Wait())
}

func TestSecondSignalEndsItAtOnce(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 1)
	worker := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
	}))
	defer worker.Close()
	p := start(t, "--queue", emails)
	client := p.client(t)
	_, err := client.CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: emails, Task: &cloudtaskspb.Task{
		MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{Url: worker.URL}},
	}})
	assert.NoError(t, err)
	<-arrived
	assert.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	p.awaitStopping(t)
	_, err = p.end(t, syscall.SIGTERM)
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Fatalf("ended with %v, want the signal", err)
	}
}

func TestTakenPortIsOneLine(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NoError(t, err)
	defer taken.Close()
	addr := taken.Addr().String()
	for _, args := range [][]string{{"--grpc", addr, "--http", "127.0.0.1:0"}, {"--grpc", "127.0.0.1:0", "--http", addr}} {
		said := fail(t, append([]string{"emulator"}, args...)...)
		assert.Equal(t, strings.Count(said, "\n"), 1)
		assert.ErrorContains(t, errors.New(said), "handoff: error: ", addr, "address already in use")
	}
}

func TestBadArguments(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"emulator", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--queue", "projects/p/locations/l/queues/a_b"}, "--queue projects/p/locations/l/queues/a_b: "},
		{[]string{"emulator", "--project", "p"}, "--queues"},
		{[]string{"emulator", "--queues", "none.yaml", "--project", "p", "--location", "l"}, "--queues: open none.yaml"},
		{[]string{"emulator", "--colour"}, "unknown flag --colour"},
		{[]string{"emulate"}, "emulate"},
		{nil, "expected"},
	} {
		assert.ErrorContains(t, errors.New(fail(t, tc.args...)), tc.want)
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	out, err := exec.Command(program, "emulator", "--help").CombinedOutput()
	assert.NoError(t, err)
	assert.ErrorContains(t, errors.New(string(out)), "--grpc=ADDR", "127.0.0.1:8123", "--http=ADDR", "--queue=NAME", "SIGTERM")
}
