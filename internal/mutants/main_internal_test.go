package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/internal/assert"
)

// files is a module with one test.
var files = map[string]string{
	"go.mod":      "module example.com/sum\n\ngo 1.26\n",
	"sum.go":      "package sum\n\nfunc Sum(a, b int) int {\n\treturn a + b\n}\n",
	"sum_test.go": "package sum\n\nimport \"testing\"\n\nfunc TestSum(t *testing.T) {\n\tif Sum(2, 2) != 4 {\n\t\tt.Fail()\n\t}\n}\n",
}

// sum returns a mutant that replaces one line of the module.
func sum(header, from, to string) string {
	return "Sum badly.\n\n" + header + "\nIn: .\n func Sum(a, b int) int {\n-\treturn " + from + "\n+\treturn " + to + "\n"
}

func TestExamine(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, text := range files {
		assert.NoError(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o600))
	}
	const all = "Tests: .\nUser: no\n"
	var mutants []*mutant
	for _, row := range []struct{ name, text string }{
		{"killed", sum(all, "a + b", "a - b")},
		{"killed at first", sum("Tests: ./nowhere\nFirst: . TestSum\n", "a + b", "a - b")},
		{"killed later", sum("Tests: .\nFirst: . TestGone\n", "a + b", "a - b")},
		{"survives", sum(all, "a + b", "a * b")},
		{"does not build", sum(all, "a + b", "nothing")},
		{"does not apply", sum(all, "a - b", "a + b")},
	} {
		m, err := parse(row.name, []byte(row.text))
		assert.NoError(t, err)
		mutants = append(mutants, m)
	}
	l := &lab{root: root, scratch: t.TempDir()}
	l.examine(t.Context(), mutants)
	var out bytes.Buffer
	err := report(&out, mutants, time.Second)
	assert.Equal(t, strings.Count(out.String(), "| Sum badly | sum.TestSum | (not to be seen) |"), 3)
	assert.ErrorContains(t, err, "survives survived", "does not build: does not build", "undefined: nothing", "does not apply: no longer applies")
	assert.Equal(t, strings.Contains(err.Error(), "killed"), false)
	text, err := os.ReadFile(filepath.Join(root, "sum.go"))
	assert.NoError(t, err)
	assert.Equal(t, string(text), files["sum.go"])
}

func TestParseRefusesHalfAMutant(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "Sum badly.\n", sum("User: yes\n", "a", "b"), "\nTests: .\n"} {
		if _, err := parse("half", []byte(text)); err == nil {
			t.Errorf("%q is a mutant", text)
		}
	}
}

// Without this test, only a slow run of all mutants would notice one that no longer
// applies.
func TestMutantsApply(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	mutants, err := readAll(root, nil)
	assert.NoError(t, err)
	for _, m := range mutants {
		for _, e := range m.edits {
			if _, err := e.find(root); err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
			if e.old == e.new {
				t.Errorf("%s: it changes nothing in %s", m.name, e.folder)
			}
		}
	}
}
