package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"sync"

	"golang.org/x/sys/unix"
)

// event is one line of the ledger: what one process saw happen, and when by
// the clock that all processes of the machine share.
type event struct {
	T    int64  `json:"t"`             // CLOCK_MONOTONIC in ns
	What string `json:"what"`          // one of the names below
	PID  int    `json:"pid"`           // who saw it
	ID   string `json:"id,omitempty"`  // of the work
	Run  string `json:"run,omitempty"` // of the delivery: unique over all processes
	Task string `json:"task,omitempty"`
	Red  int    `json:"red,omitempty"` // how often the work was redriven before
	Gen  int    `json:"gen,omitempty"`
	Tok  int64  `json:"tok,omitempty"` // fencing token
	Att  int    `json:"att,omitempty"`
	Out  string `json:"out,omitempty"` // outcome, act or cause
	N    int    `json:"n,omitempty"`

	Origin string `json:"origin,omitempty"`
}

// What happens to a piece of work, in this order.
const (
	evEnqueued = "enqueued" // Out: its act; Origin: how it was enqueued
	evClaimed  = "claimed"
	evStart    = "start"    // the handler began
	evEffect   = "effect"   // the handler changed the world
	evLost     = "lost"     // the handler was told that its lease is lost
	evEnd      = "end"      // the handler returned
	evMarked   = "marked"   // Out: as what
	evUnmarked = "unmarked" // the mark was tried and the Store could not be reached
	evLetter   = "letter"   // the dead-letter store took it
	evRedrive  = "redrive"  // the letter is about to be redriven
	evRedriven = "redriven" // its task exists and it is marked
	evCounted  = "counted"  // the claim was released, and the attempt counts
	evAnswered = "answered" // Out: the outcome
)

// What work is marked as.
const (
	markDone   = "done"
	markOpened = "opened" // a copy for later goes on
	markBuried = "buried" // by whichever delivery finished the burial
)

// What happens to processes.
const (
	evExit    = "exit"    // the process is gone, for whatever reason
	evDrained = "drained" // it ended on its own; N goroutines were left over
	evStopped = "stopped" // it stands still: SIGSTOP
	evResumed = "resumed" // it goes on
)

// now is the monotonic time of the machine, the same in every process.
func now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // the clock is there on every system that this builds for
	}
	return ts.Nano()
}

// ledger appends events to a file of its own process. A line is one write, so
// a killed process leaves only whole lines, but for the last.
type ledger struct {
	mu   sync.Mutex
	file *os.File
}

func openLedger(path string) (*ledger, error) {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &ledger{file: file}, nil
}

func (l *ledger) write(e event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.T = now() // under the lock: the order of lines is the order of times
	if e.PID == 0 {
		e.PID = os.Getpid()
	}
	line, err := json.Marshal(e)
	if err == nil {
		_, err = l.file.Write(append(line, '\n'))
	}
	if err != nil {
		panic(err) // a ledger with holes proves nothing
	}
}

func (l *ledger) close() error { return l.file.Close() }

// readLedgers merges the ledgers of all processes into one, by time.
func readLedgers(dir string) ([]event, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "ledger-*"))
	if err != nil {
		return nil, err
	}
	var events []event
	for _, path := range paths {
		if events, err = readLedger(path, events); err != nil {
			return nil, err
		}
	}
	sort.SliceStable(events, func(i, j int) bool { return events[i].T < events[j].T })
	return events, nil
}

func readLedger(path string, events []event) ([]event, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	var broken error
	for lines.Scan() {
		if broken != nil {
			return nil, fmt.Errorf("%s: a broken line is not the last: %w", filepath.Base(path), broken)
		}
		var e event
		if broken = json.Unmarshal(lines.Bytes(), &e); broken == nil {
			events = append(events, e)
		}
	}
	return events, lines.Err()
}
