package clients_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

// arrival is a dispatch that reached the worker.
type arrival struct {
	method, from, body string
}

// setup starts an emulator on free ports and a worker for its dispatches.
func setup(t *testing.T) (srv *emulator.Server, worker string, arrived <-chan arrival) {
	t.Helper()
	got := make(chan arrival, 10)
	target := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- arrival{r.Method, r.Header.Get("X-From"), string(body)}
	}))
	t.Cleanup(target.Close)
	return emulator.RunT(t, emulator.Config{GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0"}), target.URL, got
}

// expect waits for a dispatch.
func expect(t *testing.T, arrived <-chan arrival, want arrival) {
	t.Helper()
	select {
	case got := <-arrived:
		assert.Equal(t, got, want)
	case <-time.After(10 * time.Second):
		t.Fatal("no dispatch arrived")
	}
}

// run runs a program in this directory and returns what it printed.
func run(t *testing.T, env []string, name string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	return string(out), said.String(), err
}

// mustRun is like run, and fails the test if the program fails.
func mustRun(t *testing.T, name string, args ...string) {
	t.Helper()
	if stdout, stderr, err := run(t, nil, name, args...); err != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, stdout, stderr)
	}
}

// need skips the test if a program is missing, or fails it if the program is
// required.
func need(t *testing.T, program string, required bool) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if required {
			t.Fatalf("HANDOFF_REQUIRE_CLIENTS is set and %v", err)
		}
		t.Skip(err)
	}
}

// needNode installs Google's Node client, if Node is installed.
func needNode(t *testing.T) {
	t.Helper()
	required := os.Getenv("HANDOFF_REQUIRE_CLIENTS") != ""
	need(t, "node", required)
	need(t, "npm", required)
	if _, err := os.Stat("node_modules/.package-lock.json"); err != nil {
		mustRun(t, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	}
}

func TestNode(t *testing.T) {
	needNode(t)
	for _, transport := range []string{"grpc", "rest"} {
		t.Run(transport, func(t *testing.T) {
			srv, worker, arrived := setup(t)
			addr := srv.GRPCAddr()
			if transport == "rest" {
				addr = srv.HTTPAddr()
			}
			host, port, err := net.SplitHostPort(addr)
			assert.NoError(t, err)
			mustRun(t, "node", "node.js", transport, host, port, worker)
			expect(t, arrived, arrival{http.MethodPut, "node", "from node"})
			assert.Equal(t, len(srv.Queues()), 0)
		})
	}
}

// verify fails unless google-auth accepts the token of an audience, and refuses it
// for another.
const verify = `
import assert from 'node:assert/strict';
import {OAuth2Client} from 'google-auth-library';
const [certs, idToken, audience, email] = process.argv.slice(1);
const client = new OAuth2Client({endpoints: {oauth2FederatedSignonPemCertsUrl: certs}});
const ticket = await client.verifyIdToken({idToken, audience});
assert.equal(ticket.getPayload().email, email);
await assert.rejects(client.verifyIdToken({idToken, audience: audience + '/other'}), /audience/);
`

// TestGoogleAuthNode: google-auth verifies the token of a dispatch by the
// certificates of the emulator, and knows no other emulator's.
func TestGoogleAuthNode(t *testing.T) {
	needNode(t)
	const account, audience = "tasks@p.iam.gserviceaccount.com", "https://worker.example"
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	assert.NoError(t, err)
	other := emulator.RunT(t, emulator.Config{SigningKey: key})
	srv, _, _ := setup(t)
	for server, want := range map[*emulator.Server]string{srv: "", other: "No pem found"} {
		token, err := server.Token(account, audience)
		assert.NoError(t, err)
		_, stderr, err := run(t, nil, "node", "--input-type=module", "--eval", verify, "--", "http://"+srv.HTTPAddr()+"/oauth2/v1/certs", token, audience, account)
		if (err == nil) != (want == "") || !strings.Contains(stderr, want) {
			t.Errorf("want %q, got %v: %s", want, err, stderr)
		}
	}
}
