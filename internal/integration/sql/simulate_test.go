package sql_test

import (
	"encoding/json"
	"os"
	osexec "os/exec"
	"path/filepath"
	"testing"
)

// TestWorlds runs the worlds of internal/simulate on SQLite in memory, whose time is
// the process's, and so virtual. That package is in the root module, which has no
// driver: a file of testdata is added to it while its tests are built in this module.
func TestWorlds(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	t.Parallel()
	added, err := filepath.Abs("testdata/sqlite_test.go")
	if err != nil {
		t.Fatal(err)
	}
	place, err := filepath.Abs("../../simulate/sqlite_test.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{place: added}})
	if err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(t.TempDir(), "overlay.json")
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := osexec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "-overlay", overlay, "-run", "^TestWorlds$",
		"github.com/brillconsulting/handoff/internal/simulate").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
