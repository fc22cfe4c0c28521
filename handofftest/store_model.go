package handofftest

import (
	"cmp"
	"fmt"

	"github.com/brillconsulting/handoff"
)

// verdict is how a claim ends.
type verdict int

const (
	begin    verdict = iota // acquired, as the first attempt of its rank
	goOn                    // acquired, as the next attempt
	takeOver                // acquired, as the next attempt, with Crashed set
	repeat                  // acquired, with the result of the owner's first claim
	leased                  // busy until the lease expires
	released                // busy, because the owner has released the lease
	superseded
	finish // ending
	dead
	done
)

// found is the state of the record that a claim finds.
type found struct {
	state string
	held  bool // the lease has not expired
}

// claims is the table of handoff.Store. Its columns are a claim of a lower rank,
// of the same rank by another owner, of the same rank by the record's owner, of a
// higher generation, and of a higher redrive.
var claims = map[found]struct{ lower, same, own, generation, redrive verdict }{
	{"absent", false}:  {begin, begin, begin, begin, begin},
	{"running", true}:  {superseded, leased, repeat, leased, leased},
	{"running", false}: {superseded, takeOver, repeat, begin, begin},
	{"idle", false}:    {superseded, goOn, released, begin, begin},
	{"opened", false}:  {superseded, goOn, goOn, begin, begin},
	{"ending", true}:   {leased, leased, repeat, leased, leased},
	{"ending", false}:  {finish, finish, repeat, finish, finish},
	{"paused", false}:  {finish, finish, released, finish, finish}, // an ending that was released
	{"dead", false}:    {dead, dead, dead, dead, begin},
	{"done", false}:    {done, done, done, done, done},
}

// model is the record of one key by the contract of handoff.Store. Only crash
// makes its lease expire.
type model struct {
	found
	owner      string
	redrives   int
	generation int
	attempt    int
	crashed    bool
	memo, note string
	letter     string

	steps int // taken so far
	token int // the step that gave the token
	first int // the step that claimed the first of these attempts
}

// expectation is the result that a step of a history must have. The Token and
// First of a claim are not known in advance: token and first are the numbers of
// the steps whose values they must equal.
type expectation struct {
	lost         bool
	claim        handoff.Claim
	token, first int
}

func (m *model) claim(l handoff.Lease) expectation {
	row := claims[m.found]
	v := row.same
	switch newer := cmp.Or(cmp.Compare(l.Redrives, m.redrives), cmp.Compare(l.Generation, m.generation)); {
	case l.Owner == m.owner && (newer == 0 || m.state == "ending" || m.state == "paused"):
		v = row.own
	case newer < 0:
		v = row.lower
	case newer > 0 && l.Redrives > m.redrives:
		v = row.redrive
	case newer > 0:
		v = row.generation
	}
	if v == dead && l.Freed == m.letter {
		v, m.memo = begin, "" // the work begins anew
	}
	switch v {
	case leased, released:
		return expectation{claim: handoff.Claim{Status: handoff.ClaimBusy}}
	case superseded:
		return expectation{claim: handoff.Claim{Status: handoff.ClaimSuperseded}}
	case done:
		return expectation{claim: handoff.Claim{Status: handoff.ClaimDone}}
	case dead:
		return expectation{claim: handoff.Claim{Status: handoff.ClaimDead, Letter: m.letter}}
	}
	m.take(v, l)
	m.owner = l.Owner
	a := expectation{token: m.token, first: m.first}
	if m.state == "ending" {
		a.claim = handoff.Claim{Status: handoff.ClaimEnding, Attempt: m.attempt, Note: []byte(m.note)}
	} else {
		a.claim = handoff.Claim{Status: handoff.ClaimAcquired, Attempt: m.attempt, Crashed: m.crashed, Memo: []byte(m.memo)}
	}
	return a
}

// take gives the lease to l and changes the record by verdict v.
func (m *model) take(v verdict, l handoff.Lease) {
	if v == repeat {
		m.held = true
		return
	}
	m.token = m.steps
	switch v {
	case begin:
		m.redrives, m.generation = l.Redrives, l.Generation
		m.attempt, m.crashed, m.first = 1, false, m.steps
		m.note, m.letter = "", ""
	case goOn, takeOver:
		if m.attempt == 0 && m.state == "opened" {
			m.first = m.steps
		}
		m.crashed = m.crashed || v == takeOver
		m.attempt++
	}
	if v == finish {
		m.found = found{"ending", true}
	} else {
		m.found = found{"running", true}
	}
}

// owns reports whether owner was the last to get the lease, even if the lease has
// expired since.
func (m *model) owns(owner string) bool {
	return m.owner == owner && (m.state == "running" || m.state == "ending")
}

func (m *model) keep(l handoff.Lease, memo string) expectation {
	if !m.owns(l.Owner) {
		return expectation{lost: true}
	}
	m.memo = memo
	return expectation{}
}

func (m *model) end(l handoff.Lease, note string) expectation {
	if !m.owns(l.Owner) {
		return expectation{lost: true}
	}
	m.state, m.note = "ending", note
	return expectation{}
}

func (m *model) complete(l handoff.Lease) expectation {
	switch {
	case m.owner == l.Owner && (m.state == "done" || m.state == "dead" || m.state == "opened"):
		return expectation{}
	case !m.owns(l.Owner):
		return expectation{lost: true}
	}
	m.held, m.note = false, ""
	switch {
	case l.Letter != "":
		m.state, m.letter = "dead", l.Letter
	case l.Opens == handoff.OpensNothing:
		m.state, m.memo = "done", ""
	default:
		m.state, m.crashed = "opened", false
		m.generation++
		switch l.Opens {
		case handoff.OpensNext:
			m.attempt = 0
		case handoff.OpensUncounted:
			m.attempt--
		}
	}
	return expectation{}
}

func (m *model) release(l handoff.Lease, counted bool) expectation {
	switch {
	case m.owner == l.Owner && (m.state == "idle" || m.state == "paused"):
		return expectation{}
	case !m.owns(l.Owner):
		return expectation{lost: true}
	case m.state == "ending":
		m.found = found{state: "paused"}
	default:
		m.found = found{state: "idle"}
		if counted {
			m.crashed = false
		} else {
			m.attempt--
		}
	}
	return expectation{}
}

// crash lets the lease expire.
func (m *model) crash() { m.held = false }

// key returns the same string for states that the contract does not distinguish.
func (m *model) key() string {
	return fmt.Sprint(m.state, m.held, m.owner, m.redrives, m.generation, m.attempt, m.crashed, m.memo, m.note, m.letter)
}
