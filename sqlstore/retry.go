package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"
)

// errLocked is returned for a row that another transaction went on holding.
var errLocked = errors.New("the record is held by a transaction that is still open")

// How long a statement is repeated that found a row locked: other statements
// hold one for a moment, a Run for as long as it likes.
const (
	lockPause    = 2 * time.Millisecond // doubles with every try
	maxLockPause = 100 * time.Millisecond
	lockTimeout  = time.Second
)

// unlocked repeats call until it finds nothing locked. It returns errLocked if
// that does not happen within wait.
func (db *DB) unlocked(ctx context.Context, wait time.Duration, call func() (locked bool, err error)) error {
	ends := time.Now().Add(wait)
	for pause := lockPause; ; pause = min(2*pause, maxLockPause) {
		locked, err := call()
		if err != nil || !locked {
			return err
		}
		if !time.Now().Before(ends) {
			return errLocked
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// noRow is the answer of a statement that returns none. SQLite has some: see
// sqlite.go.
const noRow = ""

// ask runs a statement that answers in one word, until that is not "locked" or
// wait is over.
func (db *DB) ask(ctx context.Context, wait time.Duration, statement string, args ...any) (answer string, err error) {
	err = db.unlocked(ctx, wait, func() (bool, error) {
		err := db.retry(ctx, func() error { return db.queryRow(ctx, statement, args...).Scan(&answer) })
		if errors.Is(err, sql.ErrNoRows) {
			answer, err = noRow, nil
		}
		return answer == "locked", err
	})
	return answer, err
}

// changed runs a statement that answers "changed", "locked" or "lost".
func (db *DB) changed(ctx context.Context, lost error, statement string, args ...any) error {
	answer, err := db.ask(ctx, lockTimeout, statement, args...)
	if err == nil && (answer == "lost" || answer == noRow) {
		return lost
	}
	return db.explain(err)
}

// conflictTries is how often a statement is sent that the database refused
// because of another transaction.
const conflictTries = 3

// retry repeats call where the database says that a repetition may succeed, and
// that it changed nothing. Calls must not be nested, nor be made in a Run.
func (db *DB) retry(ctx context.Context, call func() error) error {
	leave, err := db.takeTurn(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return db.repeat(ctx, call)
}

// takeTurn waits until no other call or Run of this DB writes to SQLite. With one
// connection, the turn must be taken before that.
func (db *DB) takeTurn(ctx context.Context) (leave func(), err error) {
	if db.turn == nil {
		return func() {}, nil
	}
	select {
	case db.turn <- struct{}{}:
		return sync.OnceFunc(func() { <-db.turn }), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (db *DB) repeat(ctx context.Context, call func() error) error {
	ends := time.Now().Add(resolvePatience)
	for try := 1; ; try++ {
		err := call()
		switch {
		case db.isBusy(err) && time.Now().Before(ends):
		case isConflict(err) && try < conflictTries:
		default:
			return err
		}
		if serr := sleep(ctx, min(time.Duration(try)*lockPause, maxLockPause)); serr != nil {
			return err
		}
	}
}

// isConflict reports whether err is serialization_failure or deadlock_detected.
func isConflict(err error) bool {
	state := sqlState(err)
	return state == "40001" || state == "40P01"
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
