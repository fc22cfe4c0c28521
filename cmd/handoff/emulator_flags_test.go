package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff/internal/assert"
)

// file writes a file of queues.
func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "queues.yaml")
	assert.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// worker is a target that passes on which paths were asked for, on which host.
func worker(t *testing.T, start func(*httptest.Server)) (url string, got <-chan string) {
	t.Helper()
	paths := make(chan string, 10)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { paths <- r.URL.Path }))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	start(srv)
	t.Cleanup(srv.Close)
	return srv.URL, paths
}

func expect(t *testing.T, got <-chan string, want string) {
	t.Helper()
	select {
	case path := <-got:
		assert.Equal(t, path, want)
	case <-time.After(time.Minute):
		t.Fatalf("nobody asked for %s", want)
	}
}

func httpTask(url string) *cloudtaskspb.CreateTaskRequest {
	return &cloudtaskspb.CreateTaskRequest{Parent: emails, Task: &cloudtaskspb.Task{
		MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{Url: url, Body: []byte("correct-horse")}},
	}}
}

func TestQueuesOfAFile(t *testing.T) {
	t.Parallel()
	p := start(t, "--project", "p", "--location", "l", "--queues", file(t, `
queues:
  - name: emails
    max_dispatches_per_second: 50
    max_concurrent_dispatches: 7
    max_attempts: 9
    min_backoff: 2s
  - name: webhooks
`))
	client := p.client(t)
	q, err := client.GetQueue(t.Context(), &cloudtaskspb.GetQueueRequest{Name: emails})
	assert.NoError(t, err)
	assert.Equal(t, q.GetRateLimits().GetMaxDispatchesPerSecond(), 50)
	assert.Equal(t, q.GetRateLimits().GetMaxConcurrentDispatches(), 7)
	assert.Equal(t, q.GetRetryConfig().GetMaxAttempts(), 9)
	assert.Equal(t, q.GetRetryConfig().GetMinBackoff().AsDuration(), 2*time.Second)
	_, err = client.GetQueue(t.Context(), &cloudtaskspb.GetQueueRequest{Name: "projects/p/locations/l/queues/webhooks"})
	assert.NoError(t, err)

	// A reset brings them back.
	assert.NoError(t, client.DeleteQueue(t.Context(), &cloudtaskspb.DeleteQueueRequest{Name: emails}))
	resp, err := http.Post("http://"+p.http+"/emulator/reset", "", nil)
	assert.NoError(t, err)
	defer resp.Body.Close()
	assert.Status(t, resp.StatusCode, http.StatusOK)
	q, err = client.GetQueue(t.Context(), &cloudtaskspb.GetQueueRequest{Name: emails})
	assert.NoError(t, err)
	assert.Equal(t, q.GetRetryConfig().GetMaxAttempts(), 9)
}

func TestMissingQueuesAreCreatedIfAskedTo(t *testing.T) {
	t.Parallel()
	url, got := worker(t, (*httptest.Server).Start)
	client := start(t).client(t)
	_, err := client.CreateTask(t.Context(), httpTask(url+"/a"))
	assert.Equal(t, status.Code(err), codes.NotFound)

	client = start(t, "--create-missing-queues").client(t)
	_, err = client.CreateTask(t.Context(), httpTask(url+"/b"))
	assert.NoError(t, err)
	expect(t, got, "/b")
}

func TestAppEngineServices(t *testing.T) {
	t.Parallel()
	others, gotOthers := worker(t, (*httptest.Server).Start)
	second, gotSecond := worker(t, (*httptest.Server).Start)
	client := start(t, "--queue", emails, "--app-engine", "default="+others+"/base", "--app-engine", "mail/v2="+second).client(t)
	for _, tc := range []struct {
		routing *cloudtaskspb.AppEngineRouting
		got     <-chan string
		want    string
	}{
		{nil, gotOthers, "/base/run"},
		{&cloudtaskspb.AppEngineRouting{Service: "mail"}, gotOthers, "/base/run"},
		{&cloudtaskspb.AppEngineRouting{Service: "mail", Version: "v2"}, gotSecond, "/run"},
	} {
		_, err := client.CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: emails, Task: &cloudtaskspb.Task{
			MessageType: &cloudtaskspb.Task_AppEngineHttpRequest{AppEngineHttpRequest: &cloudtaskspb.AppEngineHttpRequest{
				RelativeUri: "/run", AppEngineRouting: tc.routing,
			}},
		}})
		assert.NoError(t, err)
		expect(t, tc.got, tc.want)
	}
}

// TestDefaultURL: what firebase-admin sends, and the queue that a function has.
func TestDefaultURL(t *testing.T) {
	t.Parallel()
	url, got := worker(t, (*httptest.Server).Start)
	p := start(t, "--create-missing-queues", "--default-url", url+"/{project}/{location}/{queue}")
	resp, err := http.Post("http://"+p.http+"/projects/p/locations/l/queues/emails/tasks", "application/json",
		strings.NewReader(`{"task":{"httpRequest":{"url":"","body":"e30=","headers":{"Content-Type":"application/json"},"oidcToken":{"serviceAccountEmail":"emulated-service-acct@email.com"}}}}`))
	assert.NoError(t, err)
	defer resp.Body.Close()
	assert.Status(t, resp.StatusCode, http.StatusOK)
	expect(t, got, "/p/l/emails")
}

func TestInsecureTargets(t *testing.T) {
	t.Parallel()
	url, got := worker(t, (*httptest.Server).StartTLS)
	client := start(t, "--queue", emails, "--insecure-targets").client(t)
	_, err := client.CreateTask(t.Context(), httpTask(url+"/self-signed"))
	assert.NoError(t, err)
	expect(t, got, "/self-signed")
}

func TestNoLimits(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args []string
		want codes.Code
	}{{nil, codes.InvalidArgument}, {[]string{"--no-limits"}, codes.OK}} {
		_, err := start(t, tc.args...).client(t).CreateQueue(t.Context(), &cloudtaskspb.CreateQueueRequest{
			Parent: "projects/p/locations/l",
			Queue:  &cloudtaskspb.Queue{Name: emails, RateLimits: &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 2000, MaxConcurrentDispatches: 10000}},
		})
		assert.Equal(t, status.Code(err), tc.want)
	}
}

// TestSigningKey: two runs with one key file sign alike.
func TestSigningKey(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	assert.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	assert.NoError(t, err)
	var sets []string
	for _, block := range []*pem.Block{{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}, {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		p := start(t, "--signing-key", file(t, string(pem.EncodeToMemory(block))))
		resp, err := http.Get("http://" + p.http + "/oauth2/v3/certs")
		assert.NoError(t, err)
		defer resp.Body.Close()
		set, err := io.ReadAll(resp.Body)
		assert.NoError(t, err)
		sets = append(sets, string(set))
	}
	assert.Equal(t, sets[0], sets[1])
	assert.Equal(t, strings.Contains(sets[0], base64.RawURLEncoding.EncodeToString(key.N.Bytes())), true)

	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	assert.NoError(t, err)
	other, err := x509.MarshalPKCS8PrivateKey(ec)
	assert.NoError(t, err)
	for content, want := range map[string]string{
		"secret": "it is not in PEM; it must have an RSA private key",
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: other})):                  "it has a *ecdsa.PrivateKey",
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pkcs8})):                  `it has a "CERTIFICATE"`,
		string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: []byte("nonsense")})): "asn1",
	} {
		said := fail(t, "emulator", "--signing-key", file(t, content))
		assert.ErrorContains(t, errors.New(said), want)
		assert.Equal(t, strings.Contains(said, "secret"), false)
	}
	assert.ErrorContains(t, errors.New(fail(t, "emulator", "--signing-key", "missing.pem")), "--signing-key: open missing.pem")
}

// TestWindowsAndStrict: a flag of zero is none, where the Config's is the default.
func TestWindowsAndStrict(t *testing.T) {
	t.Parallel()
	url, got := worker(t, (*httptest.Server).Start)
	named := httpTask(url + "/a")
	named.Task.Name = emails + "/tasks/t"
	for _, tc := range []struct {
		args []string
		want codes.Code
	}{{nil, codes.AlreadyExists}, {[]string{"--task-window=0", "--history=0", "--throttle", "--retention=240h"}, codes.OK}} {
		client := start(t, append(tc.args, "--queue", emails)...).client(t)
		_, err := client.CreateTask(t.Context(), named)
		assert.NoError(t, err)
		expect(t, got, "/a")
		assert.Eventually(t, 20*time.Second, func() bool {
			_, err := client.GetTask(t.Context(), &cloudtaskspb.GetTaskRequest{Name: named.Task.GetName()})
			return status.Code(err) == codes.NotFound
		}, "the end of the task")
		_, err = client.CreateTask(t.Context(), named)
		assert.Equal(t, status.Code(err), tc.want)
	}
	signed := httpTask(url + "/b")
	signed.Task.GetHttpRequest().AuthorizationHeader = &cloudtaskspb.HttpRequest_OidcToken{OidcToken: &cloudtaskspb.OidcToken{ServiceAccountEmail: "a@b.test"}}
	_, err := start(t, "--strict", "--queue", emails).client(t).CreateTask(t.Context(), signed)
	assert.ErrorContains(t, err, "must start with 'https://'")
	said := fail(t, "emulator", "--task-window=-1s", "--queue-window=-1s", "--history=-1")
	assert.ErrorContains(t, errors.New(said), "--task-window is -1s", "--queue-window is -1s", "--history is -1")
	assert.ErrorContains(t, errors.New(fail(t, "emulator", "--retention=0")), "--retention is 0")
}

// TestLog: a line for the call and one for the dispatch, which says nothing of
// what was sent.
func TestLog(t *testing.T) {
	t.Parallel()
	url, got := worker(t, (*httptest.Server).Start)
	p := start(t, "--queue", emails, "--log")
	_, err := p.client(t).CreateTask(t.Context(), httpTask(url+"/a"))
	assert.NoError(t, err)
	expect(t, got, "/a")
	_, err = p.end(t, syscall.SIGTERM)
	assert.NoError(t, err)
	said := p.stderr.String()
	for _, line := range []string{"msg=call method=/google.cloud.tasks.v2.CloudTasks/CreateTask resource=" + emails + "/tasks/", "msg=dispatch queue=" + emails + " task="} {
		assert.Equal(t, strings.Count(said, line), 1)
	}
	assert.Equal(t, strings.Contains(said, "correct-horse"), false)
}

// TestPageHasEveryFlag: docs/emulator.md lists the flags of --help, and no
// other.
func TestPageHasEveryFlag(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/emulator.md")
	assert.NoError(t, err)
	help, err := exec.Command(program, "emulator", "--help").Output()
	assert.NoError(t, err)
	flags := func(pattern string, in []byte) []string {
		var names []string
		for _, match := range regexp.MustCompile(pattern).FindAllSubmatch(in, -1) {
			names = append(names, string(match[1]))
		}
		slices.Sort(names)
		return slices.Compact(names)
	}
	_, table, found := strings.Cut(string(page), "| Flag | |\n")
	assert.Equal(t, found, true)
	table, _, _ = strings.Cut(table, "\n\n")
	documented := flags("`(--[a-z-]+)`", []byte(table))
	there := slices.DeleteFunc(flags(`(?m)^ +(?:-h, )?(--[a-z-]+)`, help), func(name string) bool { return name == "--help" })
	assert.Equal(t, strings.Join(documented, " "), strings.Join(there, " "))
}

// TestEveryBadFlagAtOnce: the names of the queues, the file, and where App
// Engine is, in one go.
func TestEveryBadFlagAtOnce(t *testing.T) {
	t.Parallel()
	said := fail(t, "emulator", "--queue", "a_b", "--queues", file(t, "queues:\n  - name: a_b\n    max_attempts: 0\n"),
		"--app-engine", "default=localhost", "--app-engine", "a//b=http://localhost:1", "--default-url", "localhost")
	assert.ErrorContains(t, errors.New(said), "--queue a_b: ", "--project and --location", "line 2: ", "line 3: ",
		`Config.AppEngine["default"]`, `Config.AppEngine["a//b"]`, "Config.DefaultURL")
	assert.Equal(t, strings.Count(said, "\n"), 7)
}

func TestHostFlag(t *testing.T) {
	t.Parallel()
	p := start(t, "--host", "tasks.example.com", "--host", "tasks.example.org")
	for host, want := range map[string]int{
		"tasks.example.com:8124": http.StatusOK,
		"tasks.example.org":      http.StatusOK,
		"tasks.example.net":      http.StatusForbidden,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.http+"/oauth2/v3/certs", nil)
		assert.NoError(t, err)
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		assert.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		assert.NoError(t, err)
		assert.Status(t, resp.StatusCode, want)
		if want == http.StatusForbidden && !strings.Contains(string(body), "--host") {
			t.Errorf("the refusal does not name the flag: %s", body)
		}
	}
}
