package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/brillconsulting/handoff"
)

// job is the payload: what its handler does is written in it, so that a seed
// decides all of it.
type job struct {
	Act     string        `json:"act"`
	Work    time.Duration `json:"work"`    // how long the handler works before anything else
	Redrive bool          `json:"redrive"` // whether its dead letter is redriven, once
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
	actFailAlways = "fail-always" // fails until it is redriven: buried as exhausted
	actPanic      = "panic"       // panics once, then succeeds
	actHang       = "hang"        // once runs past its deadline and ignores it for a while
	actSnooze     = "snooze"      // snoozes once, then succeeds
	actDrop       = "drop"
	actPermanent  = "permanent" // the same, without retries
	actCrash      = "crash"     // once kills its own process between effect and completion
	actPoison     = "poison"    // kills its own process each time: buried as crashed
)

// sharedJob is a job that several tasks ask for, from any producer.
type sharedJob struct {
	job
	Key string `json:"key"`
}

func (sharedJob) Kind() string { return "shared-job" }

func (j sharedJob) IdempotencyKey() string { return j.Key }

// headerWork names the piece of work that a task is of. It is the producer's own, so
// copies and letters carry it: the checker need not believe what handoff takes for
// one piece of work.
const headerWork = "Chaos-Work"

// request is one task to be created.
type request struct {
	work    string
	job     job
	shared  bool // it is one of several of its work, which have a key
	foreign bool // it is created without handoff
}

func (q request) payload() handoff.Payload {
	if q.shared {
		return sharedJob{q.job, q.work}
	}
	return q.job
}

const longestWork = 200 * time.Millisecond

// newRequests makes n tasks at random. Those of one piece of work are apart.
func newRequests(random *rand.Rand, n int) []request {
	var all []request
	for len(all) < n {
		q := request{work: fmt.Sprint("work-", len(all)), job: newJob(random)}
		times := 1
		switch dice := random.IntN(100); {
		case dice < 4:
			q.shared, times = true, 2+random.IntN(3)
		case dice < 12:
			q.foreign = true
		}
		for range times {
			if q.shared {
				q.foreign = random.IntN(3) == 0
			}
			all = append(all, q)
		}
	}
	all = all[:n]
	for i := range all {
		if j := i + random.IntN(200); all[i].shared && j < n {
			all[i], all[j] = all[j], all[i]
		}
	}
	return all
}

// newJob makes a job at random.
func newJob(random *rand.Rand) job {
	n := random.IntN(10_000)
	j := job{Work: time.Duration(random.Int64N(int64(longestWork))), Redrive: random.IntN(2) == 0}
	for _, act := range acts {
		if n -= act.share; n < 0 {
			j.Act = act.name
			break
		}
	}
	return j
}
