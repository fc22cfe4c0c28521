package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The notes above a block of commands that is not run here.
var (
	notRun = regexp.MustCompile(`^not run: .+`)
	runBy  = regexp.MustCompile(`^run by ([a-z/]+)$`) // a folder of tests that reads the page
)

// transcripts is the folder of tests that run blocks of commands with what they
// print.
const transcripts = "internal/integration/cli"

// Commands that are run elsewhere, or would not end here.
var elsewhere = regexp.MustCompile(`^(go test( -v)? \./|make( |$)|\.ci/run( |$))`)

// safe are the commands that a page may have run: programs of this repository,
// which open ports on loopback alone and end by themselves.
var safe = regexp.MustCompile(`^go run (-C examples/[a-z-]+ \.|\./examples/[a-z-]+)( -[a-z]+=[a-z0-9]+)*$`)

// TestCommands checks that every block of commands is shell, and says what
// becomes of it. With HANDOFF_RUN_DOCS=1, which make docs sets, the commands run.
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
