package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/emulator/conformance/internal/rows"
	"github.com/brillconsulting/handoff/internal/assert"
)

// TestPasses: an emulator with these settings fails no row. Rows that send a token to
// a worker are not run, nor are those about App Engine without --app-engine.
func TestPasses(t *testing.T) {
	t.Parallel()
	srv := emulator.RunT(t, emulator.Config{GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0", Strict: true, TaskWindow: time.Hour})
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"--grpc", srv.GRPCAddr(), "--http", srv.HTTPAddr(), "--json", "--timeout", "25s"}, &stdout, &stderr)
	assert.Equal(t, stderr.String(), "")
	report := decode(t, &stdout)
	for _, s := range report.Sections {
		for _, r := range s.Rows {
			if r.Outcome == rows.Failed {
				t.Errorf("#%s %s: %v", s.Number, r.Name, r.Findings)
			}
		}
	}
	if report.Passed < 400 || report.NotRun < 20 {
		t.Errorf("%d passed and %d were not run", report.Passed, report.NotRun)
	}
	assert.Equal(t, code, 0)
}

// decode reads what --json prints, and counts its rows again.
func decode(t *testing.T, stdout *bytes.Buffer) rows.Report {
	t.Helper()
	var report rows.Report
	dec := json.NewDecoder(stdout)
	dec.DisallowUnknownFields()
	assert.NoError(t, dec.Decode(&report))
	counted := map[rows.Outcome]int{}
	for _, s := range report.Sections {
		for _, r := range s.Rows {
			counted[r.Outcome]++
		}
	}
	assert.Equal(t, counted[rows.Passed], report.Passed)
	assert.Equal(t, counted[rows.Failed], report.Failed)
	assert.Equal(t, counted[rows.NotRun], report.NotRun)
	return report
}

// TestFails: without a server every row fails, in both forms of the report.
func TestFails(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NoError(t, err)
	assert.NoError(t, listener.Close())
	args := []string{"--grpc", listener.Addr().String()}
	var text, asJSON, stderr bytes.Buffer
	assert.Equal(t, run(t.Context(), args, &text, &stderr), 1)
	assert.Equal(t, run(t.Context(), append(args, "--json"), &asJSON, &stderr), 1)
	assert.Equal(t, stderr.String(), "")
	report := decode(t, &asJSON)
	assert.Equal(t, report.Failed, len(rows.All()))
	assert.Equal(t, strings.Count(text.String(), "\nfailed: #"), report.Failed)
	if !strings.HasPrefix(text.String(), "      Section of docs/cloud-tasks.md ") {
		t.Errorf("the report begins %.80q", text.String())
	}
}

// TestCannotRun: without a report the code is 2, and stderr says why.
func TestCannotRun(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NoError(t, err)
	defer taken.Close()
	emulatorFlags := []string{"--grpc", taken.Addr().String()}
	for _, tc := range []struct {
		args []string
		want []string // lines of stderr
	}{
		{nil, []string{"score: give the addresses of an emulator, --grpc and --http, or the --project of the service"}},
		{[]string{"--grpc", "x", "--project", "p", "--timeout", "30s", "--parallel", "0", "more"}, []string{
			`score: unexpected argument "more"`,
			"score: give the addresses of an emulator, --grpc and --http, or the --project of the service",
			"score: --timeout is 30s: it must be 1 s or more, and less than 30 s, the longest deadline of a call",
			"score: --parallel is 0: it must be 1 or more",
		}},
		{append(emulatorFlags, "--timeout", "999ms"), []string{"score: --timeout is 999ms: it must be 1 s or more, and less than 30 s, the longest deadline of a call"}},
		{append(emulatorFlags, "--app-engine", taken.Addr().String()), []string{"score: --app-engine: listen tcp " + taken.Addr().String() + ": bind: address already in use"}},
	} {
		var stdout, stderr bytes.Buffer
		assert.Equal(t, run(t.Context(), tc.args, &stdout, &stderr), 2)
		assert.Equal(t, stdout.String(), "")
		assert.Equal(t, stderr.String(), strings.Join(tc.want, "\n")+"\n")
	}
}

func TestUnknownFlag(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	assert.Equal(t, run(t.Context(), []string{"--colour"}, &stdout, &stderr), 2)
	assert.ErrorContains(t, errors.New(stderr.String()), "-colour", "Usage: score [flags]")
}

func TestHelp(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	assert.Equal(t, run(t.Context(), []string{"--help"}, &stdout, &stderr), 0)
	assert.ErrorContains(t, errors.New(stderr.String()),
		"-grpc", "-http", "-project", "-location", "-receivers", "-app-engine", "-timeout", "-parallel", "-json", "Exits with 0")
}

// TestInterrupted: an interrupted run prints no score.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	assert.Equal(t, run(ctx, []string{"--grpc", "127.0.0.1:1"}, &stdout, &stderr), 2)
	assert.Equal(t, stdout.String(), "")
	assert.Equal(t, stderr.String(), "score: interrupted: context canceled\n")
}

// broken is an output that cannot be written to.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestReportCannotBeWritten(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	assert.Equal(t, run(t.Context(), []string{"--grpc", "127.0.0.1:1", "--json"}, broken{}, &stderr), 2)
	assert.Equal(t, stderr.String(), "score: writing the report: no space left on device\n")
}
