package handofftest

import (
	"cmp"
	"fmt"

	"github.com/brillconsulting/handoff"
)

// verdict is what becomes of a claim.
type verdict int

const (
	begin    verdict = iota // acquired as attempt one of the claim's rank
	goOn                    // acquired, one attempt on
	takeOver                // acquired, one attempt on, crashed
	repeat                  // the first answer again
	leased                  // busy, for as long as the lease holds
	released                // busy, by an owner that has given the lease up
	superseded
	finish // ending
	dead
	done
)

// found is what a claim finds.
type found struct {
	state string
	held  bool // the lease holds
}

// claims is the table of handoff.Store: what becomes of a claim of a lower
// rank, of the same rank by another owner and by the record's own, of a higher
// generation, and of a higher redrive.
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

// model is a record as the contract of handoff.Store has it, of one key. Its
// time passes by crash alone.
type model struct {
	found
	owner      string
	redrives   int
	generation int
	attempt    int
	crashed    bool
	memo, note string
	letter     string

	steps int // taken
	token int // the step that gave the token
	first int // the step that claimed the first of these attempts
}

// answer is what a step of a history must lead to. Of a claim it has what is
// known beforehand; token and first are the steps that gave them.
type answer struct {
	lost         bool
	claim        handoff.Claim
	token, first int
}

func (m *model) claim(l handoff.Lease) answer {
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
		v, m.memo = begin, "" // the work is new
	}
	switch v {
	case leased, released:
		return answer{claim: handoff.Claim{Status: handoff.ClaimBusy}}
	case superseded:
		return answer{claim: handoff.Claim{Status: handoff.ClaimSuperseded}}
	case done:
		return answer{claim: handoff.Claim{Status: handoff.ClaimDone}}
	case dead:
		return answer{claim: handoff.Claim{Status: handoff.ClaimDead, Letter: m.letter}}
	}
	m.take(v, l)
	m.owner = l.Owner
	a := answer{token: m.token, first: m.first}
	if m.state == "ending" {
		a.claim = handoff.Claim{Status: handoff.ClaimEnding, Attempt: m.attempt, Note: []byte(m.note)}
	} else {
		a.claim = handoff.Claim{Status: handoff.ClaimAcquired, Attempt: m.attempt, Crashed: m.crashed, Memo: []byte(m.memo)}
	}
	return a
}

// take changes the record as a verdict that gives the lease does.
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

// owns reports whether owner has the lease, held or not: nobody took it.
func (m *model) owns(owner string) bool {
	return m.owner == owner && (m.state == "running" || m.state == "ending")
}

func (m *model) keep(l handoff.Lease, memo string) answer {
	if !m.owns(l.Owner) {
		return answer{lost: true}
	}
	m.memo = memo
	return answer{}
}

func (m *model) end(l handoff.Lease, note string) answer {
	if !m.owns(l.Owner) {
		return answer{lost: true}
	}
	m.state, m.note = "ending", note
	return answer{}
}

func (m *model) complete(l handoff.Lease) answer {
	switch {
	case m.owner == l.Owner && (m.state == "done" || m.state == "dead" || m.state == "opened"):
		return answer{}
	case !m.owns(l.Owner):
		return answer{lost: true}
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
		if l.Opens == handoff.OpensNext {
			m.attempt = 0
		}
	}
	return answer{}
}

func (m *model) release(l handoff.Lease, counted bool) answer {
	switch {
	case m.owner == l.Owner && (m.state == "idle" || m.state == "paused"):
		return answer{}
	case !m.owns(l.Owner):
		return answer{lost: true}
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
	return answer{}
}

// crash lets the lease run out.
func (m *model) crash() { m.held = false }

// key tells apart what the contract tells apart.
func (m *model) key() string {
	return fmt.Sprint(m.state, m.held, m.owner, m.redrives, m.generation, m.attempt, m.crashed, m.memo, m.note, m.letter)
}
