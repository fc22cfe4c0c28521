package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/internal/assert"
)

func TestMain(m *testing.M) {
	if addrs := os.Getenv(workerEnv); addrs != "" {
		exit(work(addrs))
	}
	assert.NoLeaksMain(m)
}

func TestGoesOnAfterKills(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := run(t.Context(), &out, Import{Rows: 2000, Part: 100, Pause: 20 * time.Millisecond}, 2)
	assert.NoError(t, err)
	if !strings.Contains(out.String(), "2000 rows imported, 0 missing or wrong\n") || !strings.Contains(out.String(), " 2 kills, ") {
		t.Fatal(out.String())
	}
}
