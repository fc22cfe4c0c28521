package rows

import (
	"bytes"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

var update = flag.Bool("update", false, "write the score into docs/fidelity.md")

const page = "../../../../docs/fidelity.md"

// TestFidelity runs the score against the emulator over its sockets, and compares
// docs/fidelity.md with the result.
//
//	go test ./emulator/conformance/internal/rows -run TestFidelity -update
func TestFidelity(t *testing.T) {
	t.Parallel()
	app, err := net.Listen("tcp", "127.0.0.1:0") // a free port, for Run to listen on
	assert.NoError(t, err)
	assert.NoError(t, app.Close())
	results, err := Run(t.Context(), running(t, emulator.Config{AppEngine: map[string]string{"default": "http://" + app.Addr().String()}}, app.Addr().String()))
	assert.NoError(t, err)
	report := NewReport(results)

	var failed []string
	for _, r := range results {
		if r.Outcome == Failed {
			failed = append(failed, "#"+r.Section+" "+r.Name)
			if _, known := differs[r.Name]; !known {
				t.Errorf("#%s %s: %s", r.Section, r.Name, strings.Join(r.Findings, "\n"))
			}
		}
	}
	if report.Passed < 400 || report.NotRun > 0 {
		t.Errorf("%d passed and %d were not run", report.Passed, report.NotRun)
	}
	var text bytes.Buffer
	report.writeTable(&text)
	pageHolds(t, text.String(), failed)
}

var (
	shown  = regexp.MustCompile("(?s)<!-- score -->\n```\n.*?```\n")
	listed = regexp.MustCompile("(?m)^\\| `(#[^`]+)` \\|")
)

// pageHolds compares docs/fidelity.md with a score and the rows that failed.
func pageHolds(t *testing.T, table string, failed []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	assert.NoError(t, err)
	block := "<!-- score -->\n```\n" + table + "```\n"
	if *update {
		assert.NoError(t, os.WriteFile(page, shown.ReplaceAllLiteral(text, []byte(block)), 0o600))
		return
	}
	if !strings.Contains(string(text), block) {
		t.Errorf("docs/fidelity.md does not show this score, which -update writes:\n%s", table)
	}
	var names []string
	for _, m := range listed.FindAllStringSubmatch(string(text), -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	slices.Sort(failed)
	if !slices.Equal(names, failed) {
		t.Errorf("docs/fidelity.md names these rows:\n%s\nThese failed:\n%s", strings.Join(names, "\n"), strings.Join(failed, "\n"))
	}
}

// running is an emulator with its sockets.
func running(t *testing.T, cfg emulator.Config, appEngine string) Target {
	t.Helper()
	cfg.GRPCAddr, cfg.HTTPAddr = "127.0.0.1:0", "127.0.0.1:0"
	srv := emulator.RunT(t, cfg)
	return Target{
		GRPC: srv.GRPCAddr(), HTTP: srv.HTTPAddr(), Location: "us-central1", Receivers: "127.0.0.1", AppEngine: appEngine,
		Timeout: 25 * time.Second, Parallel: 24,
	}
}

// TestCleansUp: a run leaves no queue behind.
func TestCleansUp(t *testing.T) {
	t.Parallel()
	srv := emulator.RunT(t, emulator.Config{HTTPAddr: "127.0.0.1:0"})
	_, err := run(t.Context(), Target{HTTP: srv.HTTPAddr(), Location: "us-central1", Receivers: "127.0.0.1", Timeout: 25 * time.Second, Parallel: 4}, queueTable)
	assert.NoError(t, err)
	assert.Equal(t, len(srv.Queues()), 0)
}

// TestNothingThere: a server that implements nothing passes no row.
func TestNothingThere(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NoError(t, err)
	server := grpc.NewServer()
	go server.Serve(listener) //nolint:errcheck // it ends by Stop
	defer server.Stop()
	target := Target{
		GRPC: listener.Addr().String(), HTTP: httpServer(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotImplemented)
			fmt.Fprint(w, `{"error":{"code":501,"status":"UNIMPLEMENTED","message":"no"}}`)
		})), Location: "us-central1", Receivers: "127.0.0.1", Timeout: 5 * time.Second, Parallel: 24,
	}
	results, err := Run(t.Context(), target)
	assert.NoError(t, err)
	for _, r := range results {
		if r.Outcome == Passed {
			t.Errorf("#%s %s passed", r.Section, r.Name)
		}
	}
}

// TestHostileServers: whatever the server does, a row fails within its timeout.
func TestHostileServers(t *testing.T) {
	t.Parallel()
	hangs := make(chan struct{})
	for name, h := range map[string]http.HandlerFunc{
		"hangs": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-hangs:
			case <-r.Context().Done():
			}
		},
		"hangs up":         func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"is no JSON":       func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"is null":          func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "null") },
		"is another thing": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"name":[]}`) },
		"never ends": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				fmt.Fprint(w, " ")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			results, err := run(t.Context(), Target{HTTP: httpServer(t, h), Location: "l", Receivers: "127.0.0.1", Timeout: time.Second, Parallel: 24}, queueTable)
			assert.NoError(t, err)
			for _, r := range results {
				if r.Outcome != Failed {
					t.Errorf("#%s %s: %s", r.Section, r.Name, r.Outcome)
				}
			}
		})
	}
	t.Run("is gone", func(t *testing.T) {
		t.Parallel()
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		assert.NoError(t, err)
		assert.NoError(t, listener.Close())
		results, err := Run(t.Context(), Target{GRPC: listener.Addr().String(), Location: "l", Receivers: "127.0.0.1", Timeout: 5 * time.Second, Parallel: 24})
		assert.NoError(t, err)
		report := NewReport(results)
		assert.Equal(t, []int{report.Passed, report.NotRun}, []int{0, 0})
	})
}

func httpServer(t *testing.T, h http.Handler) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NoError(t, err)
	serve(t.Cleanup, listener, h)
	return listener.Addr().String()
}

// TestPanicIsAFailure: a row that panics fails, and the others run.
func TestPanicIsAFailure(t *testing.T) {
	t.Parallel()
	results, err := run(t.Context(), running(t, emulator.Config{}, ""), []Row{
		{"2", Documented, "panics", func(*fixture) { panic("at the fixture") }},
		{"2", Documented, "is well", func(b *fixture) { b.queue() }},
	})
	assert.NoError(t, err)
	assert.Equal(t, []Outcome{results[0].Outcome, results[1].Outcome}, []Outcome{Failed, Passed})
	assert.Equal(t, strings.Contains(results[0].Findings[0], "at the fixture"), true)
}

// TestSections: every row cites an existing section, whose title is as given here, and
// no two rows have one name.
func TestSections(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../../docs/cloud-tasks.md")
	assert.NoError(t, err)
	titles := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^#{2,3} ([\d.]+?)\.? (.+)$`).FindAllStringSubmatch(string(text), -1) {
		chapter, _, inner := strings.Cut(m[1], ".")
		titles[m[1]] = m[2]
		if inner {
			titles[m[1]] = titles[chapter] + ": " + m[2]
		}
	}
	for _, s := range sections {
		assert.Equal(t, s.Title, titles[s.Number])
	}
	seen := map[string]bool{}
	for _, r := range All() {
		if sectionOf(r) < 0 {
			t.Errorf("%s: section %s is not in the list", r.Name, r.Section)
		}
		if title := r.Section + " " + r.Name; seen[title] {
			t.Errorf("%s is there twice", title)
		} else {
			seen[title] = true
		}
	}
}
