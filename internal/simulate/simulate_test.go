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

// TestWorlds finds nothing wrong in worlds of fixed seeds.
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
	if excused > 10+runs/100 { // each is explained by a fault of its work, see hits; half a percent is usual
		t.Errorf("%d excuses for %d runs", excused, runs)
	}
	text := fmt.Sprintf("%d worlds, %d runs", *worlds, runs)
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		text += fmt.Sprintf("\n  %-28s %d", name, faults[name])
	}
	t.Log(text)
}

// TestASeedMakesOneWorld runs seeds again. What happens to a piece of work is the
// same, except where two timers of the router end at one instant, such as that of a
// lease and that of the call which renews it: the runtime picks which goroutine is
// first. That is one world in a hundred.
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

// stories returns what happened, with what happened at one instant in one order.
func stories(w *world) string {
	var b strings.Builder
	for _, work := range slices.Sorted(maps.Keys(w.ledger)) {
		fmt.Fprintf(&b, "%s\n%s\n", work, strings.Join(slices.Sorted(slices.Values(w.ledger[work].story)), "\n"))
	}
	return b.String()
}

// TestEverySabotageIsNoticed breaks the fence in one way each.
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
