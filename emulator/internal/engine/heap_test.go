package engine

import (
	"math/rand/v2"
	"testing"
)

// Random pushes, removals and pops, compared with a map of what is in the agenda.
func TestAgenda(t *testing.T) {
	t.Parallel()
	var a agenda
	live := map[*task]bool{}
	seq := uint64(0)
	for step := range 30000 {
		// It grows and shrinks in turns, so that chunks are added and freed.
		grow := step/3000%2 == 0
		switch r := rand.IntN(10); {
		case grow && r < 7 || !grow && r < 3:
			tk := &task{due: rand.Int64N(1000), seq: seq, pos: -1}
			seq++
			a.push(tk)
			live[tk] = true
		case r < 8:
			if tk := a.first(); tk != nil {
				for o := range live {
					if (entry{o.due, o}).before(entry{tk.due, tk}) {
						t.Fatalf("first is due %d (%d), another %d (%d)", tk.due, tk.seq, o.due, o.seq)
					}
				}
				a.remove(tk)
				delete(live, tk)
			}
		default:
			for tk := range live {
				a.remove(tk)
				a.remove(tk) // twice does nothing
				delete(live, tk)
				break
			}
		}
		if a.n != len(live) {
			t.Fatalf("holds %d, want %d", a.n, len(live))
		}
	}
	for last := int64(-1); a.n > 0; {
		tk := a.first()
		if tk.due < last {
			t.Fatalf("due %d after %d", tk.due, last)
		}
		last = tk.due
		a.remove(tk)
	}
	if len(a.chunks) > 1 {
		t.Errorf("an empty agenda keeps %d chunks", len(a.chunks))
	}
}
