package docs_test

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	code  = regexp.MustCompile("`[^`]*`")
	link  = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	title = regexp.MustCompile(`^#+ +(.*)`)
	slug  = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// anchors returns the fragments that a link to a page may have, by GitHub's
// rules.
func anchors(t *testing.T, page string) map[string]bool {
	t.Helper()
	found := make(map[string]bool)
	_, prose := split(t, page)
	for _, line := range prose {
		if m := opens.FindStringSubmatch(line); m != nil {
			found[m[1]] = true
		}
		if m := title.FindStringSubmatch(line); m != nil {
			found[strings.ReplaceAll(slug.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
		}
	}
	return found
}

// TestLinks shows that links within this repository have a target, and that
// links to its documentation on pkg.go.dev name what exists.
func TestLinks(t *testing.T) {
	t.Parallel()
	exported := make(sources)
	for _, page := range pages(t) {
		_, prose := split(t, page)
		for i, line := range prose {
			for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(line, "code"), -1) {
				u, err := url.Parse(m[1])
				if err != nil {
					t.Errorf("%s:%d: %v", page, i+1, err)
					continue
				}
				switch {
				case u.Host == "pkg.go.dev":
					checkReference(t, exported, page, i+1, u)
				case u.Host == "" && u.Scheme == "":
					checkLink(t, page, i+1, u)
				}
			}
		}
	}
}

func checkLink(t *testing.T, page string, line int, u *url.URL) {
	t.Helper()
	target := page
	if u.Path != "" {
		target = path.Join(path.Dir(page), u.Path)
	}
	if _, err := os.Stat(filepath.Join(root, target)); err != nil {
		t.Errorf("%s:%d: there is no %s", page, line, u.Path)
		return
	}
	if u.Fragment != "" && strings.HasSuffix(target, ".md") && !anchors(t, target)[u.Fragment] {
		t.Errorf("%s:%d: %s has no heading #%s", page, line, target, u.Fragment)
	}
}

func checkReference(t *testing.T, exported sources, page string, line int, u *url.URL) {
	t.Helper()
	dir, ours := strings.CutPrefix(strings.TrimPrefix(u.Path, "/"), module)
	if !ours {
		return
	}
	if dir = strings.TrimPrefix(dir, "/"); dir == "" {
		dir = "."
	}
	names := exported.of(t, dir, false)
	if len(names) == 0 || u.Fragment != "" && names[u.Fragment] == nil {
		t.Errorf("%s:%d: there is no %s in %s", page, line, u.Fragment, dir)
	}
}
