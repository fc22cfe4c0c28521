package docs_test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"
)

// TestArchitecture shows that docs/architecture.md names each package, or a
// folder above it.
func TestArchitecture(t *testing.T) {
	t.Parallel()
	told := make(map[string]bool)
	for _, m := range regexp.MustCompile(`\*\*\[([a-z/]+)\]\(`).FindAllStringSubmatch(read(t, "docs/architecture.md"), -1) {
		told[m[1]] = true
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	assert.NoError(t, err)
	for p := range strings.FieldsSeq(string(out)) {
		dir := strings.TrimPrefix(strings.TrimPrefix(p, module), "/")
		if dir == "" {
			dir = "handoff"
		}
		for !told[dir] && strings.Contains(dir, "/") {
			dir = dir[:strings.LastIndexByte(dir, '/')]
		}
		if !told[dir] && dir != "examples" {
			t.Errorf("docs/architecture.md does not name %s", p)
		}
	}
}
