// Package rows holds the rules of Cloud Tasks as a table: one row a rule,
// with its section of docs/cloud-tasks.md and the mark of its evidence.
//
// A row is one function, used twice: by go test against an emulator in this
// process, in a testing/synctest bubble, and by [Run] against any server over
// its sockets. So a row waits for what it expects. Only to see that no dispatch
// comes does it sleep, for a second at most. Rules that take hours are tests of
// this package only.
package rows

import "slices"

// Mark says how a rule is known, in the terms of docs/cloud-tasks.md.
type Mark string

// The marks of rows. What is unknown has no row: no server is right or wrong
// there.
const (
	Documented Mark = "documented"
	Observed   Mark = "observed"
	Inferred   Mark = "inferred"
)

// Row is a rule and its test.
type Row struct {
	Section string // of docs/cloud-tasks.md, such as "9.4"
	Mark    Mark
	Name    string
	test    func(*fixture)
}

// All returns every row, in the order of the sections.
func All() []Row {
	all := slices.Concat(
		transportRows(), jsonRows(), nameRows(), pathRows(), viewRows, filterRows, callRows, policyRows, bufferRows, batchRows,
		fieldRows(), betaQueueRows, betaTaskRows, betaErrorRows(), queueRows(), limitRows, retryRows(), taskRows(), urlRows(),
		headerRows(), dispatchRows(), methodRows(), overrideRows(), tokenRows(), appEngineRows(), queueErrorRows(), taskErrorRows(),
	)
	slices.SortStableFunc(all, func(a, b Row) int { return sectionOf(a) - sectionOf(b) })
	return all
}

func sectionOf(r Row) int {
	return slices.IndexFunc(sections, func(s Section) bool { return s.Number == r.Section })
}
