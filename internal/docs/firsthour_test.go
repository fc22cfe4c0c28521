package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"
)

// TestFirstHour follows README.md, "Your first task, under test", in an empty
// folder, with this module in place of the published one.
func TestFirstHour(t *testing.T) {
	t.Parallel()
	here, err := filepath.Abs(root)
	assert.NoError(t, err)
	dir := t.TempDir()
	run := func(command string) string {
		cmd := exec.CommandContext(t.Context(), "bash", "-ec", command)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		return string(out)
	}
	const module = "github.com/brillconsulting/handoff"
	blocks, _ := split(t, "README.md")
	lines, output := 0, ""
	for _, b := range blocks {
		switch file, isFile := strings.CutPrefix(b.note, "examples/hello/"); {
		case isFile:
			lines += strings.Count(b.text, "\n")
			assert.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(b.text), 0o600))
		case b.lang == "sh" && b.note == "run by internal/docs":
			published := "go get " + module + "\n"
			output = run(strings.Replace(b.text, published, "go mod edit -replace "+module+"="+here+"\n", 1))
		}
	}
	assert.Equal(t, strings.Contains(output, "--- PASS: TestGreet"), true)
	assert.Equal(t, strings.Contains(output, "hello, Ada"), true)
	if lines == 0 || lines > 40 {
		t.Errorf("the two files have %d lines", lines)
	}
}
