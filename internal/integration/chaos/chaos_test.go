package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestMain lets the rig start this very binary as its workers.
func TestMain(m *testing.M) {
	if os.Getenv(envRole) == roleWorker {
		exitOn(workerMain())
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func needRedis(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("HANDOFF_REQUIRE_REDIS") != "" {
			t.Fatal("HANDOFF_REQUIRE_REDIS is set and redis-server is not installed")
		}
		t.Skip("redis-server is not installed")
	}
}

// TestAShortRun is the rig itself, for a few seconds.
func TestAShortRun(t *testing.T) {
	needRedis(t)
	c := config{tasks: 500, workers: 3, seed: 7, limit: 2 * time.Minute, trouble: 6 * time.Second}
	report, err := c.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	report.print(&text)
	t.Log(text.String())
	if len(report.violations) > 0 {
		t.Errorf("%d violations", len(report.violations))
	}
}

// bites is the pattern of what the checker must say of each sabotage, on jobs
// that try it.
var bites = map[string]struct{ act, says string }{
	sabotageNoOwner:   {actHang, `had not ended and was not told|nothing explains it`},
	sabotageNoRenewal: {actHang, `had not ended and was not told`},
	sabotageMarkFirst: {actFail, `lost: `},
	sabotageForget:    {actFailAlways, `after attempt 1 counted`},
}

// TestEverySabotageIsNoticed: a rig that cannot fail proves nothing.
func TestEverySabotageIsNoticed(t *testing.T) {
	needRedis(t)
	for _, how := range sabotages {
		t.Run(how, func(t *testing.T) {
			t.Parallel() // each is its own Redis, emulator and workers, and mostly waits
			var text strings.Builder
			says := regexp.MustCompile(bites[how].says)
			for seed := range uint64(3) { // what goes wrong when is chance
				c := config{tasks: 500, workers: 3, seed: seed, limit: 25 * time.Second, trouble: 20 * time.Second, sabotage: how, act: bites[how].act}
				report, err := c.run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, v := range report.violations {
					// That tasks do not settle is no proof: the rule must bite.
					if says.MatchString(v) {
						t.Logf("%d violations, the first that tells: %s", len(report.violations), v)
						return
					}
				}
				report.print(&text)
			}
			t.Errorf("no violation says %q:\n%s", says, &text)
		})
	}
}
