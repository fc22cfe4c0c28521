package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(asRole); role != "" {
		if err := serveRole(context.Background(), role, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestQuick runs the command as a reader would, with -quick.
func TestQuick(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("HANDOFF_REQUIRE_REDIS") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	page := "<!-- bench:figures -->\n<!-- /bench:figures -->\n"
	assert.NoError(t, os.WriteFile(filepath.Join(dir, "performance.md"), []byte(page), 0o600))

	var out bytes.Buffer
	if err := runBench(t, &out, "-quick", "-all", "-docs", dir); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, text := range []string{
		"worth nothing", "### The worker", "asynq, tuned", viaEnqueue, viaBatch, "CPU of a dispatch", "lateness, p99", "tasks that arrived early | 0.00",
		"drain of 40 queues", "memory after 990 finished tasks", "memory of 10,000 pending tasks", "CPU while tasks wait", "### What Redis remembers",
	} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("the report does not say %q:\n%s", text, &out)
		}
	}
}

func runBench(t *testing.T, out *bytes.Buffer, args ...string) error {
	t.Helper()
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	r := newRequest(flags)
	assert.NoError(t, flags.Parse(args))
	return r.run(t.Context(), out)
}

func TestARequestThatCannotBe(t *testing.T) {
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "-all"},
		{[]string{"-run", "worker,celery"}, `unknown section "celery"`},
		{[]string{"-run", "worker", "-rounds", "0"}, "-rounds is 0"},
	} {
		var out bytes.Buffer
		assert.ErrorContains(t, runBench(t, &out, c.args...), c.says)
	}
}
