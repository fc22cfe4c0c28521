package main

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/internal/pgtest"
)

// TestMain lets the rig start this very binary as its workers.
func TestMain(m *testing.M) {
	if asWorker() {
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func needRedis(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("HANDOFF_REQUIRE_REDIS") != "" {
			t.Fatal("HANDOFF_REQUIRE_REDIS is set and redis-server is not installed")
		}
		t.Skip("redis-server is not installed")
	}
}

// TestAShortRun is the rig itself, for a few seconds.
func TestAShortRun(t *testing.T) {
	needRedis(t)
	c := config{tasks: 500, workers: 3, seed: 7, limit: 2 * time.Minute, trouble: 6 * time.Second}
	report, err := c.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	report.print(&text)
	t.Log(text.String())
	if len(report.violations) > 0 {
		t.Errorf("%d violations", len(report.violations))
	}
}

// TestAShortRunOnSQL is the same for the outbox and for Run.
func TestAShortRunOnSQL(t *testing.T) {
	c := config{tasks: 300, workers: 3, seed: 7, limit: 2 * time.Minute, trouble: 6 * time.Second}
	report, err := c.runSQL(t.Context())
	if errors.Is(err, pgtest.ErrNotInstalled) && os.Getenv("HANDOFF_REQUIRE_POSTGRES") != "1" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	report.print(&text)
	t.Log(text.String())
	if len(report.violations) > 0 {
		t.Errorf("%d violations", len(report.violations))
	}
}
