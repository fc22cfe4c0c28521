// Package sqlstore keeps the fence and the dead letters in the database that
// the handlers write to. Use it where the effect of a task is in SQL, or where
// there is a database and no Redis.
//
//	db, err := sqlstore.New(pool, sqlstore.Config{Dialect: sqlstore.Postgres})
//	if err := db.Migrate(ctx); err != nil { … }
//	router, err := handoff.NewRouter(handoff.RouterConfig{
//		Verifier:    verifier,
//		Store:       db.Store(),
//		DeadLetters: db.DeadLetters(),
//	})
//
// [DB.Run] makes the effect of a task and its mark one commit, so that the task
// runs exactly once in this database. [Outbox] enqueues tasks in a transaction:
// they exist if and only if it commits.
//
// The pool is a [database/sql.DB] of any driver for PostgreSQL 14 or later, such
// as pgx's stdlib package, or for SQLite 3.37 or later, such as modernc.org/sqlite;
// this package imports none. Package sqlstore/sqlitetest opens a database for tests.
package sqlstore
