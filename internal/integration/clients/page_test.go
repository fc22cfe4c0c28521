package clients_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

// section returns the first block of code under a heading of docs/emulator.md.
func section(t *testing.T, heading string) string {
	t.Helper()
	page, err := os.ReadFile("../../../docs/emulator.md")
	assert.NoError(t, err)
	block := regexp.MustCompile("(?s)\n#+ " + regexp.QuoteMeta(heading) + "\n.*?\n```[a-z]+\n(.*?\n)```\n").FindSubmatch(page)
	if block == nil {
		t.Fatalf("docs/emulator.md has no code under %q", heading)
	}
	return string(block[1])
}

// readdressed replaces the ports of the page by those of the test. The code must
// contain each of them.
func readdressed(t *testing.T, code string, ports map[string]string) string {
	t.Helper()
	for documented, free := range ports {
		if !strings.Contains(code, documented) {
			t.Fatalf("%s is not in\n%s", documented, code)
		}
		code = strings.ReplaceAll(code, documented, free)
	}
	return code
}

// onPage starts a server as the page does.
func onPage(t *testing.T) (srv *emulator.Server, worker string, arrived <-chan arrival) {
	t.Helper()
	srv, worker, arrived = setup(t)
	_, err := cloudtaskspb.NewCloudTasksClient(srv.Conn()).CreateQueue(t.Context(), &cloudtaskspb.CreateQueueRequest{
		Parent: "projects/dev/locations/here", Queue: &cloudtaskspb.Queue{Name: "projects/dev/locations/here/queues/default"},
	})
	assert.NoError(t, err)
	return srv, worker, arrived
}

func TestPageGo(t *testing.T) {
	srv, worker, arrived := onPage(t)
	program := filepath.Join(t.TempDir(), "main.go")
	code := readdressed(t, section(t, "Go"), map[string]string{"127.0.0.1:8123": srv.GRPCAddr(), "http://127.0.0.1:8080": worker})
	assert.NoError(t, os.WriteFile(program, []byte(code), 0o600))
	mustRun(t, "go", "run", program)
	expect(t, arrived, arrival{method: http.MethodPost, body: `{"from":"go"}`})
}

func TestPageNode(t *testing.T) {
	needNode(t)
	srv, worker, arrived := onPage(t)
	_, port, err := net.SplitHostPort(srv.GRPCAddr())
	assert.NoError(t, err)
	code := readdressed(t, section(t, "Node"), map[string]string{"port: 8123": "port: " + port, "http://127.0.0.1:8080": worker})
	mustRun(t, "node", "--input-type=module", "--eval", code)
	expect(t, arrived, arrival{method: http.MethodPost, body: `{"from":"node"}`})
}

func TestPageCurl(t *testing.T) {
	need(t, "curl", os.Getenv("HANDOFF_REQUIRE_CLIENTS") != "")
	srv, worker, arrived := onPage(t)
	rest := "http://" + srv.HTTPAddr()
	mustRun(t, "sh", "-ec", readdressed(t, section(t, "curl"), map[string]string{"http://127.0.0.1:8124": rest, "http://127.0.0.1:8080": worker}))
	expect(t, arrived, arrival{method: http.MethodPost, body: `{"from":"curl"}`})

	mustRun(t, "sh", "-ec", readdressed(t, section(t, "For test suites"), map[string]string{"http://127.0.0.1:8124": rest}))
	assert.Equal(t, len(srv.Queues()), 0)
}

func TestPageGcloud(t *testing.T) {
	need(t, "gcloud", false)
	srv, worker, arrived := onPage(t)
	t.Setenv("CLOUDSDK_CONFIG", t.TempDir())
	mustRun(t, "sh", "-ec", readdressed(t, section(t, "gcloud"), map[string]string{"http://127.0.0.1:8124": "http://" + srv.HTTPAddr(), "http://127.0.0.1:8080": worker}))
	expect(t, arrived, arrival{method: http.MethodPost})
	assert.NoError(t, srv.Wait(context.Background()))
}
