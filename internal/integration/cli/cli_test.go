package cli_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/redistest"
	"github.com/rogpeppe/go-internal/testscript"
)

const (
	project  = "demo"
	location = "europe-west1"
	root     = "../../.."
)

// programs is the folder of the programs under test, which TestMain builds.
var programs string

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "handoff-cli")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	programs = dir
	// handoff is built in the main module, with the versions of its go.mod.
	for _, b := range []struct{ dir, pkg string }{{root, "./cmd/handoff"}, {".", "./mailer"}} {
		build := exec.Command("go", "build", "-o", filepath.Join(dir, filepath.Base(b.pkg)), b.pkg)
		build.Dir = b.dir
		if out, err := build.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("building %s: %w\n%s", b.pkg, err, out)
		}
	}
	return m.Run(), nil
}

// TestScripts runs the scripts that need only Go.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Cmds:                commands,
	})
}

// TestDeadScripts runs the scripts that need a redis-server.
func TestDeadScripts(t *testing.T) {
	t.Parallel()
	addr := redistest.Start(t, "--databases", "64")
	var databases atomic.Int64 // one database per script
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/dead",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                commands,
		Setup: func(env *testscript.Env) error {
			env.Setenv("REDIS_URL", "redis://"+addr+"/"+strconv.FormatInt(databases.Add(1), 10))
			return setup(env)
		},
	})
}

// setup gives each script its own emulator, and an environment in which no other
// service can be reached.
func setup(env *testscript.Env) error {
	srv, err := emulator.New(emulator.Config{GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0"})
	if err != nil {
		return err
	}
	env.Defer(srv.Close)
	env.Values[serverKey{}] = srv
	for name, value := range environment(srv.GRPCAddr()) {
		env.Setenv(name, value)
	}
	return nil
}

type serverKey struct{}

func environment(emulator string) map[string]string {
	return map[string]string{
		"PATH":                           programs + string(os.PathListSeparator) + os.Getenv("PATH"),
		"CLOUD_TASKS_EMULATOR_HOST":      emulator,
		"GOOGLE_CLOUD_PROJECT":           project,
		"GOOGLE_CLOUD_LOCATION":          location,
		"GOOGLE_APPLICATION_CREDENTIALS": "/nonexistent/credentials.json", // so that no metadata server is asked
	}
}

var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"exits":  exits,
	"await":  await,
	"bury":   bury,
	"mailer": mailer,
	"tty":    tty,
}

// exits CODE PROGRAM ARG... runs the program and checks its exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	ts.Check(codeIs(args[0], ts.Exec(args[1], args[2:]...)))
}

func codeIs(want string, err error) error {
	code := 0
	if err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			return err
		}
		code = exit.ExitCode()
	}
	if strconv.Itoa(code) != want {
		return fmt.Errorf("exit code %d, want %s", code, want)
	}
	return nil
}
