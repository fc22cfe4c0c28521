package main_test

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	neturl "net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/redistest"
	"github.com/brillconsulting/handoff/redisstore"
)

var dashboardLine = regexp.MustCompile(`^handoff (?:emulator: dashboard|dashboard: ready) on (http://127\.0\.0\.1:\d+/)\n$`)

// startDashboard runs the program and returns where its dashboard is.
func startDashboard(t *testing.T, env []string, args ...string) (url string, cmd *exec.Cmd) {
	t.Helper()
	cmd = exec.Command(program, args...)
	cmd.Env = append(os.Environ(), env...)
	stdout, err := cmd.StdoutPipe()
	assert.NoError(t, err)
	stderr := new(strings.Builder)
	cmd.Stderr = stderr
	assert.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // for a test that failed; else it has ended
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	match := dashboardLine.FindStringSubmatch(line)
	if match == nil {
		t.Fatalf("first line %q, %v; stderr: %s", line, err, stderr)
	}
	return match[1], cmd
}

func read(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	assert.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	assert.NoError(t, err)
	assert.Status(t, resp.StatusCode, http.StatusOK)
	return string(body)
}

func TestEmulatorDashboard(t *testing.T) {
	t.Parallel()
	url, cmd := startDashboard(t, nil, "emulator", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--queue", emails, "--dashboard", "127.0.0.1:0")
	assert.ErrorContains(t, errors.New(read(t, url)), ">emails</a>", "Last minute")
	assert.ErrorContains(t, errors.New(read(t, url+"queues/p/l/emails")), "Throughput", "No tasks are waiting.")
	assert.ErrorContains(t, errors.New(read(t, url+"dead")), "has no dead-letter store")
	assert.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	assert.NoError(t, cmd.Wait())
}

var tokenField = regexp.MustCompile(`name="token" value="([^"]+)"`)

// TestEmulatorDashboardRedrives what is buried, into the emulator itself.
func TestEmulatorDashboardRedrives(t *testing.T) {
	t.Parallel()
	addr := redistest.Start(t)
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	defer rdb.Close()
	letters := redisstore.NewDeadLetters(rdb, nil)
	assert.NoError(t, letters.Put(t.Context(), handoff.DeadLetter{
		ID: "letter-1", Kind: "welcome", Queue: "emails", Task: "t", Target: "http://127.0.0.1:1/tasks/welcome", Payload: []byte(`{}`), BuriedAt: time.Now(),
	}))
	url, cmd := startDashboard(t, nil, "emulator", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--queue", emails, "--dashboard", "127.0.0.1:0",
		"--redis", "redis://"+addr, "--project", "p", "--location", "l", "--target", "http://127.0.0.1:1/tasks", "--service-account", "tasks@p.iam.gserviceaccount.com")
	jar, err := cookiejar.New(nil)
	assert.NoError(t, err)
	browser := &http.Client{Jar: jar}
	get := func(path string) string {
		resp, err := browser.Get(url + path)
		assert.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		assert.NoError(t, err)
		return string(body)
	}
	token := tokenField.FindStringSubmatch(get("dead/letter?id=letter-1"))
	resp, err := browser.PostForm(url+"dead/letter/redrive", neturl.Values{"token": {token[1]}, "id": {"letter-1"}})
	assert.NoError(t, err)
	resp.Body.Close()
	assert.Status(t, resp.StatusCode, http.StatusOK)
	assert.ErrorContains(t, errors.New(get("queues/p/l/emails")), "welcome")
	assert.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	assert.NoError(t, cmd.Wait())

	for args, says := range map[string]string{
		"--target http://127.0.0.1:1/tasks --unsigned": "--project and --location, and one is missing",
		"--project p --location l --target http://w":   "no signature",
		"--project p --location l":                     "both are missing",
	} {
		args := append([]string{"emulator", "--dashboard", "127.0.0.1:0", "--redis", "redis://" + addr}, strings.Fields(args)...)
		assert.ErrorContains(t, errors.New(fail(t, args...)), says)
	}
}

// TestDashboardOfAnAPI: the command that shows Cloud Tasks shows any server of
// its API.
func TestDashboardOfAnAPI(t *testing.T) {
	t.Parallel()
	p := start(t, "--queue", emails)
	url, cmd := startDashboard(t, []string{"CLOUD_TASKS_EMULATOR_HOST=" + p.grpc}, "dashboard", "--project", "p", "--location", "l", "--listen", "127.0.0.1:0", "--read-only")
	page := read(t, url+"queues/p/l/emails")
	assert.ErrorContains(t, errors.New(page), "There are no charts", "No tasks are waiting.", "read-only")
	assert.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	assert.NoError(t, cmd.Wait())
}

func TestDashboardStaysHere(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{":8080", "0.0.0.0:8080", "192.0.2.1:8080", "[::]:8080", "example.com:8080"} {
		assert.ErrorContains(t, errors.New(fail(t, "emulator", "--dashboard", addr)), "--dashboard is", "has no login")
		assert.ErrorContains(t, errors.New(fail(t, "dashboard", "--listen", addr)), "--listen is", "has no login")
	}
	assert.ErrorContains(t, errors.New(fail(t, "emulator", "--dashboard", "8080")), "it must be host:port")
	assert.ErrorContains(t, errors.New(fail(t, "dashboard", "--target", "https://worker.test")), "--redis")
}
