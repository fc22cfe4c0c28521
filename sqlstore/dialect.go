package sqlstore

import (
	"embed"
	"io/fs"
	"regexp"
	"strings"
)

// Dialect is the kind of database behind a pool.
type Dialect int

// The databases that this package knows.
const (
	Postgres Dialect = iota + 1 // PostgreSQL 14 and later
	SQLite                      // SQLite 3.37 and later
)

var dialects = [...]struct {
	name       string
	statements func(schema string) statements
	migration  func(text, schema string) string // the text of a file for another schema than the one it names
}{
	Postgres: {"postgres", postgres, rename},
	SQLite:   {"sqlite", sqlite, withPrefix},
}

func (d Dialect) valid() bool { return d >= Postgres && int(d) < len(dialects) }

// String returns the name of the dialect, which is that of its folder in
// [Migrations].
func (d Dialect) String() string {
	if !d.valid() {
		return "unknown"
	}
	return dialects[d].name
}

func (d Dialect) statements(schema string) statements { return dialects[d].statements(schema) }

func (d Dialect) migration(text, schema string) string { return dialects[d].migration(text, schema) }

// statements are all that is ever sent to the database, with the schema filled
// in. The file of a dialect says what each must do.
type statements struct {
	parameter string // what begins one: $ or ?
	timed     bool   // the first parameter is the time

	migrate  string // begins a transaction that migrates: no other does until it is over
	migrated string // whether there is a table of migrations
	version  string

	claimNew, claim, found, extend, renew           string // SQLite has no claimNew; PostgreSQL no found and no extend
	complete, release, end, keep, show, free, sweep string

	begin, mark, markEnding, commit, committed    string // PostgreSQL has no begin: its words depend on the isolation
	keepTx, keepCommit, kept                      string // SQLite has no keepCommit
	inbox, probeInbox, committedInbox, sweepInbox string // SQLite has no probeInbox

	enqueue, enqueueRow                              string // a row has #1 to #6 for its parameters
	queuesOutbox, takeOutbox                         string
	sentOutbox, backOutbox, parkOutbox               string
	notify                                           string // empty: there is no such thing
	listOutbox, retryOutbox, dropOutbox, statsOutbox string

	putLetter, trimLetters, getLetter, listLetters, listKind, deleteLetter, markLetter, countLetters string
}

// Migrations holds the SQL files that make the tables: a folder a dialect, files
// numbered from 0001, to be applied in that order. They say "handoff" for the
// schema, or where there is none in the names of tables, and are named and
// annotated as goose, golang-migrate and Atlas want them. Migrations only add.
//
//go:embed migrations
var Migrations embed.FS

// migrations returns the files in their order; that of version 1 is the first.
func (d Dialect) migrations() []string {
	files, err := fs.Glob(Migrations, "migrations/"+d.String()+"/*.sql") // sorted
	if err != nil {
		panic(err) // the pattern is ours
	}
	return files
}

// newest is the version of the last migration.
func (d Dialect) newest() int { return len(d.migrations()) }

var schemaInFile = regexp.MustCompile(`\b` + defaultSchema + `\b`)

func rename(text, schema string) string { // of PostgreSQL
	if schema == defaultSchema {
		return text
	}
	return schemaInFile.ReplaceAllLiteralString(text, identifier(schema))
}

// inSchema puts the name of a schema where sql says $schema, and the same as a
// string where it says $literal.
func inSchema(sql, schema string) string {
	literal := "'" + strings.ReplaceAll(schema, "'", "''") + "'"
	return strings.NewReplacer("$schema", identifier(schema), "$literal", literal).Replace(sql)
}

func identifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
