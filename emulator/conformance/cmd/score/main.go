// Command score runs the rows of emulator/conformance against a server that
// speaks the API of Cloud Tasks, and prints the results.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/brillconsulting/handoff/emulator/conformance/internal/rows"
)

const usage = `Usage: score [flags]

Runs every row of emulator/conformance against a server and prints, for each
section of docs/cloud-tasks.md, how many passed, with the marks of their
evidence; then every row that failed. A row runs over each transport that has an
address, and fails if it fails over one of them.

  score --grpc 127.0.0.1:8123 --http 127.0.0.1:8124    an emulator
  score --project my-project                           the service (never tried)

Each row uses queues of its own, in a project of its own where the server is an
emulator, and deletes them. At the service, the names of deleted queues cannot be
used again for days, and calls are billed.

Exits with 0 if no row failed, 1 if one did, 2 if the rows could not be run.

`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	target, asJSON, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	results, err := rows.Run(ctx, target)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	report := rows.NewReport(results)
	if asJSON {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(report)
	} else {
		err = report.Write(stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "score: writing the report:", err)
		return 2
	}
	if report.Failed > 0 {
		return 1
	}
	return 0
}

// parse reads the flags and reports everything that is wrong with them.
func parse(args []string, stderr io.Writer) (target rows.Target, asJSON bool, err error) {
	flags := flag.NewFlagSet("score", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	flags.StringVar(&target.GRPC, "grpc", "", "`address` of the emulator's gRPC API")
	flags.StringVar(&target.HTTP, "http", "", "`address` of the emulator's REST API")
	flags.StringVar(&target.Project, "project", "", "`ID` of the service's project to run in, instead of an emulator, with the application default credentials")
	flags.StringVar(&target.Location, "location", "us-central1", "`ID` of the location")
	flags.StringVar(&target.Receivers, "receivers", "127.0.0.1", "`host` that the emulator reaches this machine by, such as host.docker.internal")
	flags.StringVar(&target.AppEngine, "app-engine", "", "`address` to listen on as the App Engine app of the emulator; without it, rows that need one are not run")
	flags.DurationVar(&target.Timeout, "timeout", 20*time.Second, "`time` that a row has, less than 30 s")
	flags.IntVar(&target.Parallel, "parallel", 8, "`number` of rows that run at once")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	if err := flags.Parse(args); err != nil {
		return target, false, err
	}
	var wrong []error
	if flags.NArg() > 0 {
		wrong = append(wrong, fmt.Errorf("score: unexpected argument %q", flags.Arg(0)))
	}
	emulator := target.GRPC != "" || target.HTTP != ""
	if emulator == (target.Project != "") {
		wrong = append(wrong, errors.New("score: give the addresses of an emulator, --grpc and --http, or the --project of the service"))
	}
	if target.Timeout < time.Second || target.Timeout >= 30*time.Second {
		wrong = append(wrong, fmt.Errorf("score: --timeout is %v: it must be 1 s or more, and less than 30 s, the longest deadline of a call", target.Timeout))
	}
	if target.Parallel < 1 {
		wrong = append(wrong, fmt.Errorf("score: --parallel is %d: it must be 1 or more", target.Parallel))
	}
	return target, asJSON, errors.Join(wrong...)
}
