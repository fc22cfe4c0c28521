package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"
)

// shown is a Go block under a comment that names the file it is.
var shown = regexp.MustCompile("(?s)<!-- (examples/[^ ]+\\.go) -->\n```go\n(.*?)```")

// What a page shows of an example is the example, which has tests.
func TestExamplesAreShownVerbatim(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob(root + "/docs/*.md")
	assert.NoError(t, err)
	found := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		assert.NoError(t, err)
		for _, block := range shown.FindAllStringSubmatch(string(text), -1) {
			found++
			file, err := os.ReadFile(filepath.Join(root, block[1]))
			assert.NoError(t, err)
			if block[2] != string(file) {
				t.Errorf("%s shows another %s than there is", filepath.Base(page), block[1])
			}
		}
	}
	if found < 5 { // testing.md alone has these
		t.Errorf("%d files are shown, want 5 or more", found)
	}
}
