package clients_test

import (
	"context"
	"net"
	"net/http/httptest"
	"os"
	"regexp"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/memstore"
)

// charge is the payload of docs/wire.md.
type charge struct {
	Order string `json:"order"`
}

func (charge) Kind() string { return "charge" }

func (charge) Policy() handoff.Policy { return handoff.Policy{Queue: "default"} }

func (c charge) IdempotencyKey() string { return "order-" + c.Order }

// ran is an attempt, as the handler saw it.
type ran struct {
	charge charge
	info   handoff.Info
}

// wirePage starts an emulator and a worker that handles charges as in docs/wire.md.
func wirePage(t *testing.T) (srv *emulator.Server, worker string, attempts <-chan ran) {
	t.Helper()
	srv = emulator.RunT(t, emulator.Config{GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0"})
	for _, queue := range []string{"default", "other"} {
		_, err := cloudtaskspb.NewCloudTasksClient(srv.Conn()).CreateQueue(t.Context(), &cloudtaskspb.CreateQueueRequest{
			Parent: "projects/dev/locations/here", Queue: &cloudtaskspb.Queue{Name: "projects/dev/locations/here/queues/" + queue},
		})
		assert.NoError(t, err)
	}
	server := httptest.NewUnstartedServer(nil)
	worker = "http://" + server.Listener.Addr().String()
	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{worker},
		Callers:   []string{"tasks@dev.iam.gserviceaccount.com"},
		Keys:      handoff.StaticKeys(srv.JWKS()),
	})
	assert.NoError(t, err)
	router, err := handoff.NewRouter(handoff.RouterConfig{Verifier: verifier, Store: memstore.New(), DeadLetters: memstore.NewDeadLetters()})
	assert.NoError(t, err)
	got := make(chan ran, 10)
	handoff.Handle(router, func(ctx context.Context, c charge) error {
		got <- ran{c, handoff.InfoFromContext(ctx)}
		return nil
	})
	server.Config.Handler = router
	server.Start()
	t.Cleanup(server.Close)
	return srv, worker, got
}

// wireCode returns the first block of code under a heading of docs/wire.md.
func wireCode(t *testing.T, heading string) string {
	t.Helper()
	page, err := os.ReadFile("../../../docs/wire.md")
	assert.NoError(t, err)
	block := regexp.MustCompile("(?s)\n## " + regexp.QuoteMeta(heading) + "\n.*?\n```[a-z]+\n(.*?\n)```\n").FindSubmatch(page)
	if block == nil {
		t.Fatalf("docs/wire.md has no code under %q", heading)
	}
	return string(block[1])
}

func next(t *testing.T, attempts <-chan ran) ran {
	t.Helper()
	select {
	case r := <-attempts:
		return r
	case <-time.After(10 * time.Second):
		t.Fatal("no task ran")
	}
	return ran{}
}

// TestWireNode shows that the tasks of a Node producer and of a Go producer are the
// same work if they have the same key.
func TestWireNode(t *testing.T) {
	needNode(t)
	srv, worker, attempts := wirePage(t)
	_, port, err := net.SplitHostPort(srv.GRPCAddr())
	assert.NoError(t, err)
	mustRun(t, "node", "--input-type=module", "--eval",
		readdressed(t, wireCode(t, "Node"), map[string]string{"port: 8123": "port: " + port, "http://127.0.0.1:8080": worker}))
	first := next(t, attempts)
	assert.Equal(t, first.charge, charge{Order: "1001"})
	assert.Equal(t, first.info.MaxAttempts, 5)
	assert.Equal(t, first.info.ExpiresAt.Sub(first.info.EnqueuedAt), 24*time.Hour)

	client, err := handoff.NewClient(t.Context(), handoff.ClientConfig{
		Project: "dev", Location: "here", Options: srv.ClientOptions(),
		Target: handoff.HTTPTarget{URL: worker + "/tasks", ServiceAccount: "tasks@dev.iam.gserviceaccount.com"},
	})
	assert.NoError(t, err)
	defer client.Close()
	second, err := client.Enqueue(t.Context(), charge{Order: "1001"})
	assert.NoError(t, err)
	assert.Equal(t, second.Duplicate, true)
	// On another queue the task's name is not taken, but the key is the same.
	other, err := client.Enqueue(t.Context(), charge{Order: "1001"}, handoff.OnQueue("other"))
	assert.NoError(t, err)
	assert.Equal(t, other.Duplicate, false)
	_, err = client.Enqueue(t.Context(), charge{Order: "1002"}, handoff.OnQueue("other"))
	assert.NoError(t, err)
	assert.NoError(t, srv.Wait(t.Context()))
	assert.Equal(t, next(t, attempts).charge, charge{Order: "1002"})
	assert.Equal(t, len(attempts), 0)
}

func TestWireCurl(t *testing.T) {
	need(t, "curl", os.Getenv("HANDOFF_REQUIRE_CLIENTS") != "")
	srv, worker, attempts := wirePage(t)
	mustRun(t, "sh", "-ec", readdressed(t, wireCode(t, "curl"),
		map[string]string{"http://127.0.0.1:8124": "http://" + srv.HTTPAddr(), "http://127.0.0.1:8080": worker}))
	got := next(t, attempts)
	assert.Equal(t, got.charge, charge{Order: "1002"})
	assert.Equal(t, got.info.ID, "HX4WKIWRPLVXKXRNRG2SMM")
}
