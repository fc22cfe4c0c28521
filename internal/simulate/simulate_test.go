// gax draws its jitter from the global source of math/rand, which Seed must set.
//
//go:debug randseednop=0
package simulate_test

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"
)

var (
	worlds = flag.Int("worlds", 200, "worlds of TestWorlds")
	first  = flag.Uint64("first", 1, "seed of the first world")
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

// TestWorlds checks worlds of fixed seeds.
func TestWorlds(t *testing.T) {
	faults, runs, bad, excused := map[string]int{}, 0, 0, 0
	for i := range *worlds {
		w := simulate(t, *first+uint64(i), sound)
		for _, v := range w.violations() {
			bad++
			if bad <= 5 {
				t.Error(v)
			}
		}
		for name, n := range w.faults {
			faults[name] += n
			if strings.HasPrefix(name, "excuse") {
				excused += n
			}
		}
		for _, h := range w.ledger {
			runs += len(h.runs)
		}
	}
	if bad > 0 {
		t.Errorf("%d pieces of work were wrong", bad)
	}
	if excused > 10+runs/100 { // half a percent is usual; each excuse is a fault of the work, see history.hits
		t.Errorf("%d excuses for %d runs", excused, runs)
	}
	text := fmt.Sprintf("%d worlds, %d runs", *worlds, runs)
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		text += fmt.Sprintf("\n  %-28s %d", name, faults[name])
	}
	t.Log(text)
}

// TestASeedMakesOneWorld runs seeds twice. The same happens to each piece of work,
// unless two timers of the router end at the same instant, such as those of a lease
// and of the call that renews it: then the runtime picks which goroutine is first.
// That is one world in a hundred.
func TestASeedMakesOneWorld(t *testing.T) {
	const seeds = 100
	differ := 0
	for seed := range uint64(seeds) {
		once := stories(simulate(t, seed, sound))
		if again := stories(simulate(t, seed, sound)); again != once {
			differ++
		}
	}
	t.Logf("%d of %d worlds differ", differ, seeds)
	if differ > seeds/20 {
		t.Errorf("%d of %d worlds differ when they are run again", differ, seeds)
	}
}

// stories returns what happened, with events of the same instant sorted.
func stories(w *world) string {
	var b strings.Builder
	for _, work := range slices.Sorted(maps.Keys(w.ledger)) {
		fmt.Fprintf(&b, "%s\n%s\n", work, strings.Join(slices.Sorted(slices.Values(w.ledger[work].story)), "\n"))
	}
	return b.String()
}

// TestEverySabotageIsNoticed breaks the fence in each way, and checks that some
// world notices.
func TestEverySabotageIsNoticed(t *testing.T) {
	for _, how := range sabotages {
		t.Run(string(how), func(t *testing.T) {
			for seed := uint64(1); seed <= 300; seed++ {
				if found := simulate(t, seed, how).violations(); len(found) > 0 {
					if sane := simulate(t, seed, sound).violations(); len(sane) > 0 {
						t.Fatalf("the sound library fails in world %d:\n%s", seed, sane[0])
					}
					t.Logf("noticed in world %d", seed)
					return
				}
			}
			t.Error("no world noticed")
		})
	}
}
