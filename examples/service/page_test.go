package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/redistest"
)

// step is a block of commands in docs/service.md, and the block of their output.
var step = regexp.MustCompile("(?s)<!-- run by examples/service -->\n```sh\n(.*?)```\n\n```\n(.*?)```\n")

// TestPage runs the commands of docs/service.md: those with a Redis on a service that
// has one, which speaks TLS, and the others on a service in memory.
func TestPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/service.md")
	assert.NoError(t, err)
	bin := t.TempDir()
	assert.NoError(t, exec.CommandContext(t.Context(), "go", "build", "-C", "../..", "-o", bin, "./cmd/handoff").Run())
	steps := step.FindAllStringSubmatch(string(page), -1)
	last := len(steps) - 1
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		follow(t, steps[:last], bin)
	})
	t.Run("Redis", func(t *testing.T) {
		t.Parallel()
		addr, ca := tlsRedis(t)
		follow(t, steps[last:], bin, "-redis", "rediss://"+addr, "-redis-ca", ca, "-prefix", "shop:")
	})
}

// follow runs steps on a service with these flags.
func follow(t *testing.T, steps [][]string, bin string, flags ...string) {
	ctx, stop := context.WithCancel(t.Context())
	r, w := io.Pipe()
	var log strings.Builder
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, append(flags, "-listen", "127.0.0.1:0", "-emulator", "127.0.0.1:0", "-thumbnails", "300", "-page", "10ms"), w, &log)
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	assert.NoError(t, err)
	addrs := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindAllString(line, -1)
	shop, tasks := addrs[0], addrs[2]
	await(t, shop, `(?s)"charge",handoff_outcome="dead".*"charge",handoff_outcome="done".*"contact-changed".*"export".*"webhook",handoff_outcome="done"`)
	here := []string{"127.0.0.1:8080", shop, "127.0.0.1:8123", tasks}
	if len(flags) > 0 {
		here = append(here, "rediss://shop:PASSWORD@127.0.0.1:6390", flags[1], "ca.pem", flags[3])
	}
	for _, s := range steps {
		cmd := exec.CommandContext(ctx, "bash", "-ec", strings.NewReplacer(here...).Replace(s[1]))
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != s[2] {
			t.Errorf("%s%v\n%s\nthe page has\n%s", s[1], err, out, s[2])
		}
	}
	if len(flags) == 0 {
		await(t, shop, `"send-email",handoff_outcome="done"`) // which a step enqueued
	}
	stop()
	assert.NoError(t, <-ended)
	if !regexp.MustCompile(`"kind":"charge".*"logging.googleapis.com/trace":"projects/acme-shop/traces/[0-9a-f]{32}"`).MatchString(log.String()) {
		t.Errorf("no line has the trace of a charge:\n%s", log.String())
	}
}

// await waits until the metrics of a service match.
func await(t *testing.T, shop, pattern string) {
	assert.Eventually(t, 30*time.Second, func() bool {
		resp, err := http.Get("http://" + shop + "/metrics")
		assert.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		assert.NoError(t, err)
		return regexp.MustCompile(pattern).Match(text)
	}, pattern)
}

// tlsRedis runs a Redis that speaks TLS, and returns its address and the file of its
// certificate.
func tlsRedis(t *testing.T) (addr, ca string) {
	server := httptest.NewTLSServer(nil) // for its certificate, which is valid for 127.0.0.1
	server.Close()
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(t.TempDir(), name)
		assert.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return file
	}
	key, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	assert.NoError(t, err)
	ca = write("ca.pem", "CERTIFICATE", server.Certificate().Raw)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	assert.NoError(t, err)
	redistest.Start(t, "--tls-port", port, "--tls-cert-file", ca, "--tls-key-file", write("key.pem", "PRIVATE KEY", key), "--tls-auth-clients", "no")
	return "127.0.0.1:" + port, ca
}
