package simulate_test

import (
	"flag"
	"fmt"
	"maps"
	"slices"
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
	faults, runs, bad := map[string]int{}, 0, 0
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
		}
		for _, h := range w.ledger {
			runs += len(h.runs)
		}
	}
	if bad > 0 {
		t.Errorf("%d pieces of work were wrong", bad)
	}
	text := fmt.Sprintf("%d worlds, %d runs", *worlds, runs)
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		text += fmt.Sprintf("\n  %-28s %d", name, faults[name])
	}
	t.Log(text)
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
