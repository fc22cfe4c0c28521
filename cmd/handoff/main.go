// Command handoff runs Cloud Tasks on your machine, and operates queues, tasks
// and dead letters there and in the cloud.
//
//	handoff emulator                                          run the emulator
//	handoff dashboard                                         show queues, tasks and dead letters in a browser
//	handoff queues list|describe|ensure|diff|pause|resume|purge|delete
//	handoff tasks  list|describe|run|delete|enqueue
//	handoff dead   list|show|redrive|delete
//	handoff key    show|free
//	handoff outbox list|retry|drop                            by handoff-outbox, a program of its own
//	handoff version
//
// handoff COMMAND --help says more; docs/operating.md walks through an incident.
//
// # Where it works
//
// Queues and tasks are those of --project and --location (GOOGLE_CLOUD_PROJECT,
// GOOGLE_CLOUD_LOCATION). It finds credentials as gcloud and Google's libraries
// do (Application Default Credentials). CLOUD_TASKS_EMULATOR_HOST, host:port,
// leads to an emulator instead. Dead letters and keys are in the Redis of --redis
// (HANDOFF_REDIS_URL or REDIS_URL), below --prefix (HANDOFF_PREFIX). Full names of
// queues and tasks, as the commands print them, are accepted in place of IDs.
//
// # Output
//
// Tables are for people and may change. --output json is for programs: one JSON
// object a line, one line for each queue, change, task or letter, as they come,
// so that a list that is cut short is valid as far as it goes. Fields are never
// renamed; new ones may appear; one that is unknown or does not apply is left
// out. Times are RFC 3339 in UTC, durations are in the form of queue files
// ("1m30s"). The fields are those of queueJSON, changeJSON, taskJSON,
// receiptJSON, letterJSON, keyJSON and resultJSON, listed in docs/operating.md.
//
// Payloads and headers, which may hold secrets, are shown only with --payload. In
// JSON, payload is base64.
//
// Results go to stdout; questions, progress and errors to stderr. Colours are
// for terminals, unless NO_COLOR is set.
//
// # Exit codes
//
//	0    done
//	1    failed, at least in part; each error is a line on stderr
//	2    wrong usage, and nothing was done: a flag or an argument is invalid or
//	     missing, or there is no terminal to ask for confirmation (use --yes)
//	3    queues diff found differences
//	130  interrupted by Ctrl-C (SIGINT), or 143 by SIGTERM. The items in progress
//	     were finished and printed; a second signal ends the program at once. The
//	     emulator and the dashboard run until a signal, and then exit with 0.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"reflect"
	"syscall"

	"github.com/alecthomas/kong"
)

// cli holds the commands, each in a file of its own.
type cli struct {
	Emulator  emulatorCmd  `cmd:"" help:"Run Cloud Tasks on this machine."`
	Dashboard dashboardCmd `cmd:"" help:"Show queues, tasks and dead letters in a browser."`
	Queues    queuesCmd    `cmd:"" help:"List, configure, pause, purge and delete queues."`
	Tasks     tasksCmd     `cmd:"" help:"List, run, delete and enqueue tasks."`
	Dead      deadCmd      `cmd:"" help:"List, redrive and delete dead letters."`
	Key       keyCmd       `cmd:"" help:"Show and free the keys of work that happens once."`
	Outbox    outboxCmd    `cmd:"" passthrough:"" help:"List, retry and drop tasks that were enqueued in a transaction (needs handoff-outbox)."`
	Version   versionCmd   `cmd:"" help:"Print the version."`
}

const exitCodes = `Exit codes: 0 done; 1 failed, at least in part; 2 wrong usage, nothing was done; 3 queues diff found differences; ` +
	`130 interrupted by Ctrl-C, 143 by SIGTERM.`

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx := untilSignal()
	con := newConsole()
	parser, err := kong.New(new(cli),
		kong.Name("handoff"),
		kong.Description("Google Cloud Tasks from the command line: an emulator, queues, tasks and dead letters.\n\n"+exitCodes),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(con),
	)
	if err != nil {
		panic(err) // the struct above is wrong
	}
	command, err := parser.Parse(args)
	if err == nil {
		err = checkFlags(command.Path)
	}
	if err != nil {
		return con.fail(ctx, usageError{err})
	}
	if err := command.Run(); err != nil {
		return con.fail(ctx, err)
	}
	return 0
}

// checkFlags reports the flags that were given a negative number, where only
// --max-attempts may be one, and those with an empty text, as by --key "$ORDER"
// with a variable that is not set. A body may be empty, and a flag that has a variable of
// its own, which the empty text overrides.
func checkFlags(path []*kong.Path) error {
	var errs []error
	for _, p := range path {
		switch f := p.Flag; {
		case f == nil:
		case f.Target.CanInt() && f.Target.Int() < 0:
			errs = append(errs, fmt.Errorf("--%s is %v; it must be 0 or more", f.Name, f.Target))
		case f.Name != "body" && len(f.Envs) == 0 && f.Target.Kind() == reflect.String && f.Target.String() == "":
			errs = append(errs, fmt.Errorf("--%s is empty; leave it out, or set the variable that it is from", f.Name))
		}
	}
	return errors.Join(errs...)
}

// interruption is the cause of a context that was cancelled by a signal.
type interruption struct{ signal syscall.Signal }

func (i interruption) Error() string { return "interrupted by " + i.signal.String() }

// untilSignal returns a context that is cancelled by the first SIGINT or SIGTERM, so
// that commands can end in order. The second signal ends the process.
func untilSignal() context.Context {
	ctx, end := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		s := <-signals
		signal.Stop(signals)
		end(interruption{s.(syscall.Signal)})
	}()
	return ctx
}
