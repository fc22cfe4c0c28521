package sql_test

import (
	"database/sql"
	"strings"
	"sync"
	"testing"

	"github.com/brillconsulting/handoff"
)

func TestMigrateFromManyAtOnce(t *testing.T) {
	t.Parallel()
	pool, schema := connect(t), newSchema()
	var calls sync.WaitGroup
	for range 20 {
		db := inSchema(t, pool, schema)
		calls.Go(func() {
			if err := db.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if err := inSchema(t, pool, schema).DeadLetters().Put(t.Context(), handoff.DeadLetter{ID: "a"}); err != nil {
		t.Fatal(err)
	}
}

func TestOtherSchemas(t *testing.T) {
	t.Parallel()
	for name, world := range map[string]struct{ change, want string }{
		"none":                        {`DROP SCHEMA $ CASCADE`, "run DB.Migrate"},
		"older":                       {`DELETE FROM $.migration`, "run DB.Migrate"},
		"newer that needs a newer us": {`INSERT INTO $.migration (version, least) VALUES (1000, 999)`, "deploy a newer"},
		"newer":                       {`INSERT INTO $.migration (version, least) VALUES (1000, 1)`, ""},
		"without a table":             {`DROP TABLE $.letter`, "run DB.Migrate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, schema := connect(t), newSchema()
			db := inSchema(t, pool, schema)
			if err := db.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			exec(t, pool, strings.ReplaceAll(world.change, "$", `"`+strings.ReplaceAll(schema, `"`, `""`)+`"`))
			_, err := db.DeadLetters().CountByKind(t.Context())
			switch {
			case world.want == "" && err != nil:
				t.Fatal(err)
			case world.want != "" && (err == nil || !strings.Contains(err.Error(), world.want)):
				t.Fatalf("got %v, want %q", err, world.want)
			}
		})
	}
}

// TestRights: the application's user needs no DDL, and is told what it lacks.
func TestRights(t *testing.T) {
	t.Parallel()
	pool, schema := connect(t), newSchema()
	if err := inSchema(t, pool, schema).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	of := quoted(schema)
	exec(t, pool, `CREATE ROLE app LOGIN`)
	exec(t, pool, `GRANT USAGE ON SCHEMA `+of+` TO app`)
	app, err := sql.Open("pgx", strings.Replace(server.URL(), "test@", "app@", 1))
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	letters := inSchema(t, app, schema).DeadLetters()
	if err := letters.Put(t.Context(), handoff.DeadLetter{ID: "a"}); err == nil || !strings.Contains(err.Error(), "needs USAGE") {
		t.Fatalf("without rights: %v", err)
	}
	exec(t, pool, `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA `+of+` TO app`)
	if err := letters.Put(t.Context(), handoff.DeadLetter{ID: "a"}); err != nil {
		t.Fatalf("with the rights that the error names: %v", err)
	}
}
