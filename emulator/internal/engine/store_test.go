package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
)

func empty(t *testing.T, id string) Encoded {
	t.Helper()
	e, err := Encode(id, new(cloudtaskspb.Task))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func storedTask(t *testing.T, id string) *task {
	t.Helper()
	return &task{id: id, message: empty(t, id).message, pos: -1}
}

// The store tells tasks apart although their hashes collide. With a good hash that
// never happens, so this one nearly always collides.
func TestStore(t *testing.T) {
	t.Parallel()
	for name, hash := range map[string]func(string) uint64{
		"good hash": hashID,
		"bad hash":  func(id string) uint64 { return uint64(id[len(id)-1]) % 3 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore()
			s.hash = hash
			live := map[string]*task{}
			for i := range 5000 {
				if rand.IntN(5) < 3 {
					id := fmt.Sprint("task-", i)
					tk := storedTask(t, id)
					s.add(tk, hash(id))
					live[id] = tk
				}
				for id, tk := range live {
					if rand.IntN(5) < 2 {
						s.remove(tk, hash(id))
						delete(live, id)
						if s.find(id, hash(id)) != nil {
							t.Fatalf("%s is found after its removal", id)
						}
					}
					break
				}
			}
			for id, tk := range live {
				if s.find(id, hash(id)) != tk {
					t.Fatalf("%s is not found", id)
				}
			}
			listed := 0
			for tk := s.from(0); tk != nil; tk = s.from(tk.seq + 1) {
				listed++
			}
			if listed != len(live) || s.n != len(live) {
				t.Errorf("lists %d, counts %d, want %d", listed, s.n, len(live))
			}
		})
	}
}

// A dispatch that ends late keeps only its own row.
func TestStoreForgetsRows(t *testing.T) {
	t.Parallel()
	s := newStore()
	var all []*task
	for i := range 10 * rowSize {
		tk := storedTask(t, fmt.Sprint(i))
		s.add(tk, s.hash(tk.id))
		all = append(all, tk)
	}
	straggler := all[3*rowSize]
	for _, tk := range all {
		if tk != straggler {
			s.remove(tk, s.hash(tk.id))
		}
	}
	rows := 0
	for _, r := range s.rows {
		if r != nil {
			rows++
		}
	}
	if rows != 2 { // its own and the last
		t.Errorf("keeps %d rows", rows)
	}
	if s.from(0) != straggler {
		t.Error("the straggler is lost")
	}
	s.remove(straggler, s.hash(straggler.id))
	if s.from(0) != nil || len(s.rows) != 1 {
		t.Errorf("an empty store keeps %d rows", len(s.rows))
	}
}

func TestGraves(t *testing.T) {
	t.Parallel()
	const window = int64(24 * time.Hour)
	var g graves
	ends := map[uint64]int64{}
	now := int64(1e18)
	for i := range uint64(20000) {
		now += rand.Int64N(window / 2000)
		g.bury(i, now, window)
		ends[i] = now
		probe := rand.Uint64N(i + 1)
		if got, want := g.holds(probe, now, window), now-ends[probe] < window; got != want {
			t.Fatalf("a grave of %v: got %v", time.Duration(now-ends[probe]), got)
		}
	}
	held := 0
	for _, gen := range g.generations {
		held += len(gen.gone)
	}
	alive := 0
	for _, end := range ends {
		if now-end < window {
			alive++
		}
	}
	if held > alive*5/4 {
		t.Errorf("remembers %d graves, %d of them needed", held, alive)
	}
	if g.bury(1, now, 0); g.holds(1, now, 0) {
		t.Error("without a window a name is held")
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	h := history{max: 3, messages: &messages{limit: keptBytes}}
	for i := range 5 {
		tk := storedTask(t, fmt.Sprint(i))
		tk.life = &life{count: int32(i), dispatches: []record{{}}}
		h.add(tk, int64(i), Succeeded)
	}
	h.add(storedTask(t, "never dispatched"), 5, Deleted)
	var found []string
	for i := range 5 {
		if f := h.find(fmt.Sprint(i)); f != nil {
			found = append(found, fmt.Sprint(i))
		}
	}
	if !slices.Equal(found, []string{"2", "3", "4"}) {
		t.Errorf("remembers %v", found)
	}
	if last := h.copy(h.back(0)); last.ID != "4" || last.Ended.UnixNano() != 4 || last.DispatchCount != 4 {
		t.Errorf("last is %+v", last)
	}
}

// TestMessages: the messages of the tasks that ended last are kept, of all queues
// together, and no more than the limit.
func TestMessages(t *testing.T) {
	t.Parallel()
	const size = 1000
	m := &messages{limit: 5 * (size + keptOverhead)}
	quiet, busy := history{max: 3, messages: m}, history{max: 3, messages: m}
	end := func(h *history, id string) {
		tk := &task{id: id, message: make([]byte, size), life: &life{dispatches: []record{{}}}}
		h.add(tk, 0, Succeeded)
	}
	kept := func(h *history, id string) bool { return h.copy(h.find(id)).Task.Message != nil }
	end(&quiet, "q1")
	for i := range 100 {
		end(&busy, fmt.Sprint("b", i))
	}
	if !kept(&quiet, "q1") || !kept(&busy, "b97") || !kept(&busy, "b99") || m.order.Len() != 4 {
		t.Errorf("a busy queue takes the place of another: %d kept", m.order.Len())
	}
	end(&quiet, "q2")
	end(&quiet, "q3")
	if kept(&quiet, "q1") || !kept(&quiet, "q2") || m.bytes != m.limit {
		t.Errorf("the oldest is kept over the limit: %d bytes of %d", m.bytes, m.limit)
	}
	end(&quiet, "q4") // in q1's place in the history, which has no message any more
	quiet.forget()
	busy.forget()
	if m.bytes != 0 || m.order.Len() != 0 {
		t.Errorf("%d bytes are left", m.bytes)
	}
}
