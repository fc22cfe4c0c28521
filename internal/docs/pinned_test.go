package docs_test

import (
	"regexp"
	"strings"
	"testing"
)

// What CI and images are built from, and the form that pins it: a tag can be moved.
var (
	builtFrom = regexp.MustCompile(`^\s*(?:- )?(uses:|image:|FROM) (.+?)\s*$`)
	pinned    = regexp.MustCompile(`^(\S+@[0-9a-f]{40} # v\d+\.\d+\.\d+|\S+:\S+@sha256:[0-9a-f]{64}( AS \w+)?)$`)
)

// TestPinned checks that every action and every base image is named by its digest.
func TestPinned(t *testing.T) {
	t.Parallel()
	found := 0
	for _, name := range tracked(t, ".github/workflows/*.yml", "*Dockerfile", "*compose.yaml") {
		for line := range strings.Lines(read(t, name)) {
			from := builtFrom.FindStringSubmatch(strings.TrimRight(line, "\n"))
			if from == nil {
				continue
			}
			found++
			if !pinned.MatchString(from[2]) {
				t.Errorf("%s: %q is not pinned by its digest, with its version beside it", name, from[2])
			}
		}
	}
	if found < 15 {
		t.Errorf("%d actions and images found, want 15 or more", found)
	}
}
