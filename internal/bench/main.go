// Command bench measures what handoff costs compared with its alternatives, all in
// one run: absolute figures depend on the machine and its load, ratios much less.
// Each side runs in its own process, so that its CPU time can be measured
// separately. A case in which anything failed has no figures, and makes the command
// fail. It needs Linux and Debian's redis-server.
//
//	go run -C internal/bench . -all
//	go run -C internal/bench . -run worker,asynq
//	go run -C internal/bench . -quick -all
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// sections are the valid names for -run.
var sections = []string{"worker", "asynq", "enqueue", "emulator", "memory"}

func main() {
	log.SetFlags(0)
	if role := os.Getenv(asRole); role != "" {
		exit(serveRole(context.Background(), role, os.Stdin, os.Stdout))
		return
	}
	asked := newRequest(flag.CommandLine)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := asked.run(ctx, os.Stdout)
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// request holds the command's flags.
type request struct {
	sections string
	all      bool
	quick    bool
	rounds   int
	docs     string
}

func newRequest(flags *flag.FlagSet) *request {
	var r request
	flags.StringVar(&r.sections, "run", "", "the sections to run, comma-separated: "+strings.Join(sections, ","))
	flags.BoolVar(&r.all, "all", false, "run all sections (twenty minutes)")
	flags.BoolVar(&r.quick, "quick", false, "only check that the sections work, in a few seconds")
	flags.IntVar(&r.rounds, "rounds", full.rounds, "rounds of each comparison, after one warm-up round")
	flags.StringVar(&r.docs, "docs", "", "the docs folder; its performance.md is updated")
	return &r
}

// check validates the flags, and returns the scale and the sections.
func (r *request) check() (scale, []string, error) {
	s, wanted := full, strings.FieldsFunc(r.sections, func(c rune) bool { return c == ',' })
	s.rounds = r.rounds
	if r.quick {
		s = quick
	}
	if r.all {
		wanted = sections
	}
	switch {
	case r.rounds < 1:
		return s, nil, fmt.Errorf("-rounds is %d; must be at least 1", r.rounds)
	case len(wanted) == 0:
		return s, nil, errors.New("say what to run: -all, or -run " + strings.Join(sections, ","))
	}
	for _, name := range wanted {
		if !slices.Contains(sections, name) {
			return s, nil, fmt.Errorf("-run: unknown section %q; must be one of %s", name, strings.Join(sections, ","))
		}
	}
	return s, wanted, nil
}

func (r *request) run(ctx context.Context, out io.Writer) error {
	scale, wanted, err := r.check()
	if err != nil {
		return err
	}
	l := &lab{scale: scale, progress: func(text string) { log.Print(text) }}
	report, err := l.run(ctx, wanted)
	closing := l.close()
	if ctx.Err() != nil { // the cause of all other errors
		return errors.New("interrupted")
	}
	if err = errors.Join(err, closing); err != nil {
		return err
	}
	report.Quick = r.quick
	fmt.Fprint(out, figuresBlock(report))
	if failed := report.failures(); len(failed) > 0 {
		return fmt.Errorf("%d cases failed and have no figures:\n%s", len(failed), strings.Join(failed, "\n"))
	}
	if r.docs != "" {
		return writeDocs(r.docs, report)
	}
	return nil
}

// run runs the wanted sections.
func (l *lab) run(ctx context.Context, wanted []string) (*Report, error) {
	report := &Report{Machine: thisMachine(ctx), Date: time.Now().UTC().Truncate(time.Minute), Rounds: l.rounds}
	has := func(name string) bool { return slices.Contains(wanted, name) }
	rows, err := l.processing(ctx, has("worker"), has("asynq"))
	report.Rows = rows
	for _, section := range []struct {
		name string
		run  func(context.Context, *Report) error
	}{{"enqueue", l.enqueuing}, {"emulator", l.emulation}, {"memory", l.remember}} {
		if err == nil && has(section.name) {
			err = section.run(ctx, report)
		}
	}
	report.compare()
	return report, errors.Join(err, ctx.Err())
}
