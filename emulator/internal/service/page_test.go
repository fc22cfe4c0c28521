package service

import (
	"testing"
	"time"
)

func TestPager(t *testing.T) {
	t.Parallel()
	p := newPager()
	now := time.Unix(1e9, 0)
	token := p.seal("here", now, "tasks", "q")
	for name, row := range map[string]struct {
		pager pager
		token string
		at    time.Time
		scope []string
		ok    bool
	}{
		"at once":            {p, token, now, []string{"tasks", "q"}, true},
		"before two hours":   {p, token, now.Add(2*time.Hour - time.Second), []string{"tasks", "q"}, true},
		"after two hours":    {p, token, now.Add(2 * time.Hour), []string{"tasks", "q"}, false},
		"of another parent":  {p, token, now, []string{"tasks", "r"}, false},
		"of another method":  {p, token, now, []string{"queues", "q"}, false},
		"of another server":  {newPager(), token, now, []string{"tasks", "q"}, false},
		"cut short":          {p, token[:20], now, []string{"tasks", "q"}, false},
		"not base64":         {p, "?", now, []string{"tasks", "q"}, false},
		"with a bit changed": {p, "B" + token[1:], now, []string{"tasks", "q"}, false},
	} {
		got, err := row.pager.open(row.token, row.at, row.scope...)
		if (err == nil) != row.ok || row.ok && got != "here" {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

// FuzzPageToken: only a sealed token opens, and it gives what was sealed.
func FuzzPageToken(f *testing.F) {
	p := newPager()
	now := time.Unix(1e9, 0)
	f.Add("", "position", "parent")
	f.Add(p.seal("position", now, "parent"), "\x00", "\x00\x00")
	f.Fuzz(func(t *testing.T, token, position, parent string) {
		if _, err := p.open(token, now, "other scope"); err == nil {
			t.Fatalf("%q opens", token)
		}
		got, err := p.open(p.seal(position, now, parent), now, parent)
		if err != nil || got != position {
			t.Fatalf("sealed %q, opened %q, %v", position, got, err)
		}
	})
}
