package main

import (
	"bytes"
	"context"
	"encoding/json"
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

// TestQuick runs what a reader would, in a few seconds. The sections that need
// PostgreSQL are run where there is one.
func TestQuick(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("HANDOFF_REQUIRE_REDIS") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	run := "worker,asynq,e2e,growth,soak"
	if _, err := postgresBin(); err == nil {
		run += ",river,enqueue"
	}
	dir := t.TempDir()
	page := "<!-- bench:figures -->\n<!-- /bench:figures -->\n<!-- bench:sizing -->\n<!-- /bench:sizing -->\n"
	assert.NoError(t, os.WriteFile(filepath.Join(dir, "performance.md"), []byte(page), 0o600))

	var out bytes.Buffer
	report := filepath.Join(dir, "report.json")
	profile := filepath.Join(dir, "cpu.pprof")
	err := carryOut(t, &out, "-quick", "-run", run, "-json", report, "-docs", dir, "-cpuprofile", profile)
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, text := range []string{"worth nothing", "THE WORKER", "asynq, tuned", handoffSide, "bytes of payload", "500 in flight for 1s"} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("the report does not say %q:\n%s", text, &out)
		}
	}
	var r Report
	text, err := os.ReadFile(report)
	assert.NoError(t, err)
	assert.NoError(t, json.Unmarshal(text, &r))
	for _, row := range r.Rows {
		for whose, used := range row.CPU {
			if used.Median <= 0 && row.Name != bareEcho { // bare echo asks Redis for nothing
				t.Errorf("%s: CPU of %s is %v", row.title(), whose, used)
			}
		}
	}
	for _, made := range []string{"performance.svg", "cpu.pprof"} {
		info, err := os.Stat(filepath.Join(dir, made))
		assert.NoError(t, err)
		assert.Equal(t, info.Size() > 0, true)
	}
}

func carryOut(t *testing.T, out *bytes.Buffer, args ...string) error {
	t.Helper()
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	r := newRequest(flags)
	assert.NoError(t, flags.Parse(args))
	return r.carryOut(t.Context(), out)
}

func TestARequestThatCannotBe(t *testing.T) {
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "-all"},
		{[]string{"-run", "worker,celery"}, `knows no "celery"`},
		{[]string{"-run", "worker", "-inflight", "1,many"}, `"1,many"`},
		{[]string{"-run", "worker", "-inflight", "0"}, `"0"`},
		{[]string{"-run", "worker", "-rounds", "0"}, "-rounds is 0"},
	} {
		var out bytes.Buffer
		assert.ErrorContains(t, carryOut(t, &out, c.args...), c.says)
	}
}
