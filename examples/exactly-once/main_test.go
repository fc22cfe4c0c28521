package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(workerEnv); path != "" {
		exit(work(path))
	}
	assert.NoLeaksMain(m)
}

func TestOneChargeForEachOrder(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	assert.NoError(t, run(t.Context(), &out, 12))
	if want := "\n12 orders, 14 kills: 12 before a response, 2 before a commit\n12 charges, of 12 orders\n"; !strings.HasSuffix(out.String(), want) {
		t.Fatalf("got %s, want %s at its end", out.String(), want)
	}
}
