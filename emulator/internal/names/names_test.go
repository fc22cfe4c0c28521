package names_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff/emulator/internal/names"
)

func TestParseQueue(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"projects/p/locations/l/queues/q":                              true,
		"projects/example.com:p-1/locations/us-central1/queues/A-z-09": true,
		"projects/p/locations/l/queues/" + strings.Repeat("x", 100):    true,
		"projects/p/locations/l/queues/" + strings.Repeat("x", 101):    false,
		"projects/p/locations/l/queues/under_score":                    false,
		"projects/p/locations/l/queues/":                               false,
		"projects/p/locations/l/queues/q/":                             false,
		"projects/p/locations/l/queues/q/queues/q":                     false,
		"projects//locations/l/queues/q":                               false,
		"projects/p/locations//queues/q":                               false,
		"projects/p_/locations/l/queues/q":                             false,
		"/projects/p/locations/l/queues/q":                             false,
		"projects/p/locations/l/locations/l/queues/q":                  false,
		"projects/p/locations/l":                                       false,
		"":                                                             false,
	} {
		if _, ok := names.ParseQueue(name); ok != want {
			t.Errorf("%q: got %v", name, ok)
		}
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]bool{
		"": false, "a": true, "A_b-9": true, "a.b": false, "ä": false, "a b": false,
		strings.Repeat("_", 500): true, strings.Repeat("_", 501): false,
	} {
		if names.IsTaskID(id) != want {
			t.Errorf("task ID %q: got %v", id, !want)
		}
	}
}

func TestProject(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"not-a-valid-parent": "not-a-valid-parent", "projects/p": "p", "projects/p/locations": "p", "": "", "projects/": "",
	} {
		if got := names.Project(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

// FuzzParseQueue compares the parser with the regular expressions of
// docs/cloud-tasks.md#2.
func FuzzParseQueue(f *testing.F) {
	f.Add("projects/p/locations/l/queues/q")
	f.Add("projects/p/locations/l/queues/q/queues/q")
	f.Add("projects/a:b.c-d/locations//queues/_")
	rule := regexp.MustCompile(`^projects/([A-Za-z0-9:.-]+)/locations/([A-Za-z0-9-]+)/queues/([A-Za-z0-9-]{1,100})$`)
	f.Fuzz(func(t *testing.T, name string) {
		q, ok := names.ParseQueue(name)
		parts := rule.FindStringSubmatch(name)
		// $ would also stand before a last newline.
		if ok != (parts != nil && !strings.HasSuffix(name, "\n")) {
			t.Fatalf("%q: got %v", name, ok)
		}
		if ok && (q != names.Queue{Project: parts[1], Location: parts[2], ID: parts[3]}) {
			t.Fatalf("%q: got %+v", name, q)
		}
		queue, id, ok := names.SplitTask(name + "/tasks/t")
		if !ok || queue != name || id != "t" {
			t.Fatalf("%q: split into %q and %q", name, queue, id)
		}
	})
}
