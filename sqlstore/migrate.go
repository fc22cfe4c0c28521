package sqlstore

import (
	"context"
	"fmt"
)

// Migrate makes the tables, or brings those of an older version up to this one.
// It changes nothing where they are up to date or newer. Many processes may
// call it at once: each version is one transaction, and they take turns.
//
// With PostgreSQL it needs the right to create a schema. Where the application's user must not
// have it, apply the files of [Migrations] by other means; everything else
// needs USAGE on the schema, and SELECT, INSERT, UPDATE and DELETE on its tables.
func (db *DB) Migrate(ctx context.Context) error {
	for i, file := range db.dialect.migrations() {
		text, err := Migrations.ReadFile(file)
		if err != nil {
			return fmt.Errorf("sqlstore: migrate: %w", err)
		}
		if err := db.migrate(ctx, i+1, string(text)); err != nil {
			return fmt.Errorf("sqlstore: migrate to version %d: %w", i+1, db.explain(err))
		}
	}
	return nil
}

// migrate applies one file unless it has been.
func (db *DB) migrate(ctx context.Context, to int, text string) error {
	conn, err := db.pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer db.rollback(ctx, conn)
	if err := db.begin(ctx, conn, db.sql.migrate); err != nil {
		return err
	}
	var made bool
	if err := conn.QueryRowContext(ctx, db.sql.migrated).Scan(&made); err != nil {
		return err
	}
	if made {
		version, _, err := db.version(ctx, conn)
		if err != nil || version >= to {
			return err
		}
	}
	if _, err := conn.ExecContext(ctx, db.dialect.migration(text, db.schema)); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "COMMIT")
	return err
}
