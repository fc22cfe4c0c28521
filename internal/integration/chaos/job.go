package main

import (
	"math/rand/v2"
	"time"

	"github.com/brillconsulting/handoff"
)

// job is the payload: what its handler does is written in it, so that a seed
// decides all of it.
type job struct {
	Act  string        `json:"act"`
	Work time.Duration `json:"work"` // how long the handler works before anything else
}

func (job) Kind() string { return "job" }

func (job) Policy() handoff.Policy {
	return handoff.Policy{TTL: time.Hour, Retry: handoff.Retry{
		MaxAttempts: maxAttempts, MinBackoff: 100 * time.Millisecond, MaxBackoff: time.Second, MaxDoublings: 3,
	}}
}

const maxAttempts = 6

// acts are what handlers do, each with its share of ten thousand jobs.
var acts = []struct {
	name  string
	share int
}{
	{actOK, 8200},
	{actFail, 600},
	{actFailAlways, 150},
	{actPanic, 200},
	{actHang, 60},
	{actSnooze, 350},
	{actDrop, 150},
	{actPermanent, 200},
	{actCrash, 80},
	{actPoison, 10},
}

const (
	actOK         = "ok"
	actFail       = "fail"        // fails once, then succeeds
	actFailAlways = "fail-always" // buried as exhausted
	actPanic      = "panic"       // panics once, then succeeds
	actHang       = "hang"        // once runs past its deadline and ignores it for a while
	actSnooze     = "snooze"      // snoozes once, then succeeds
	actDrop       = "drop"
	actPermanent  = "permanent"
	actCrash      = "crash"  // once kills its own process between effect and completion
	actPoison     = "poison" // kills its own process each time: buried as crashed
)

const longestWork = 200 * time.Millisecond

// newJob makes a job at random.
func newJob(random *rand.Rand) job {
	n := random.IntN(10_000)
	j := job{Work: time.Duration(random.Int64N(int64(longestWork)))}
	for _, act := range acts {
		if n -= act.share; n < 0 {
			j.Act = act.name
			break
		}
	}
	return j
}
