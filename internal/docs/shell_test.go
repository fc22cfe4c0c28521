package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Notes above a block of commands that is not run here.
var (
	notRun = regexp.MustCompile(`^not run: .+`)
	runBy  = regexp.MustCompile(`^run by ([a-z/]+)$`) // a folder of tests that reads the page
)

// transcripts is the folder of the tests that run commands and compare their
// output.
const transcripts = "internal/integration/cli"

// elsewhere matches commands that other tests run, or that do not end.
var elsewhere = regexp.MustCompile(`^(go test( -v)? \./|make( |$)|\.ci/run( |$))`)

// safe matches the commands that may run here: programs of this repository,
// which listen on loopback only and end by themselves.
var safe = regexp.MustCompile(`^go run (-C examples/[a-z-]+ \.|\./examples/[a-z-]+)( -[a-z]+=[a-z0-9]+)*$`)

// TestCommands shows that every block of commands is valid shell, and that it is
// run or says why not. It runs the commands if HANDOFF_RUN_DOCS=1, as make docs
// sets.
func TestCommands(t *testing.T) {
	t.Parallel()
	ran := make(map[string]bool)
	for _, page := range pages(t) {
		blocks, _ := split(t, page)
		for _, b := range blocks {
			if b.lang == "console" {
				checkRunBy(t, b, transcripts)
			}
			if b.lang != "sh" {
				continue
			}
			if out, err := exec.CommandContext(t.Context(), "bash", "-n", "-c", b.text).CombinedOutput(); err != nil {
				t.Errorf("%s:%d: %s", b.page, b.line, out)
			}
			switch m := runBy.FindStringSubmatch(b.note); {
			case notRun.MatchString(b.note):
			case m != nil:
				checkRunBy(t, b, m[1])
			default:
				for line := range strings.Lines(b.text) {
					command, _, _ := strings.Cut(line, "#")
					if command = strings.TrimSpace(command); command != "" && !elsewhere.MatchString(command) && !ran[command] {
						ran[command] = true
						runCommand(t, b, command)
					}
				}
			}
		}
	}
	if len(ran) == 0 {
		t.Error("no page has a command that runs")
	}
}

// checkRunBy fails unless a test in the folder names the page.
func checkRunBy(t *testing.T, b block, dir string) {
	t.Helper()
	tests, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range tests {
		if text, err := os.ReadFile(name); err == nil && strings.Contains(string(text), filepath.Base(b.page)) {
			return
		}
	}
	t.Errorf("%s:%d: no test in %s reads the page", b.page, b.line, dir)
}

func runCommand(t *testing.T, b block, command string) {
	t.Helper()
	if !safe.MatchString(command) {
		t.Errorf("%s:%d: %s: nothing runs it; say so above the block: <!-- not run: … --> or <!-- run by internal/… -->", b.page, b.line, command)
		return
	}
	if os.Getenv("HANDOFF_RUN_DOCS") == "" {
		return
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", command)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s:%d: %s: %v\n%s", b.page, b.line, command, err, out)
	}
}
