// Command bench measures what handoff costs beside what its users would take
// instead, everything in one run: absolute figures depend on the machine and on
// what else it does, the relations much less. Every process is apart, so that
// its CPU is its own; a case in which anything failed has no figures, and the
// command fails. It needs Linux and Debian's redis-server and postgresql.
//
//	go run -C internal/bench . -all
//	go run -C internal/bench . -run worker,asynq
//	go run -C internal/bench . -quick
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sections are what can be asked for.
var sections = []string{"worker", "asynq", "river", "e2e", "enqueue", "growth", "soak"}

func main() {
	log.SetFlags(0)
	if role := os.Getenv(asRole); role != "" {
		end(serveRole(context.Background(), role, os.Stdin, os.Stdout))
		return
	}
	asked := newRequest(flag.CommandLine)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := asked.carryOut(ctx, os.Stdout)
	stop()
	end(err)
}

func end(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// request is what the command was asked for.
type request struct {
	run      string
	all      bool
	quick    bool
	rounds   int
	levels   string
	soak     time.Duration
	jsonFile string
	docs     string
	profile  string
}

func newRequest(flags *flag.FlagSet) *request {
	var r request
	flags.StringVar(&r.run, "run", "", "the sections to run, of "+strings.Join(sections, ","))
	flags.BoolVar(&r.all, "all", false, "run all of them (half an hour)")
	flags.BoolVar(&r.quick, "quick", false, "only show that they work, in a few seconds; the worker's section unless others are named")
	flags.IntVar(&r.rounds, "rounds", full.rounds, "rounds of each comparison, after one that warms up")
	flags.StringVar(&r.levels, "inflight", "1,16,100,500", "deliveries in flight in the worker's section")
	flags.DurationVar(&r.soak, "soak", full.soak, "length of the soak")
	flags.StringVar(&r.jsonFile, "json", "", "file to write the report to as JSON")
	flags.StringVar(&r.docs, "docs", "", "the docs folder, whose performance.md and .svg to write")
	flags.StringVar(&r.profile, "cpuprofile", "", "file to write a CPU profile of the worker with handoff to")
	return &r
}

// scale and sections of the request, or what is wrong with it.
func (r *request) check() (scale, []string, error) {
	s, wanted := full, strings.FieldsFunc(r.run, func(c rune) bool { return c == ',' })
	s.rounds, s.soak = r.rounds, r.soak
	switch {
	case r.quick:
		s = quick
	case r.rounds < 1:
		return s, nil, fmt.Errorf("-rounds is %d; one at least", r.rounds)
	default:
		s.levels = nil
		for text := range strings.SplitSeq(r.levels, ",") {
			level, err := strconv.Atoi(text)
			if err != nil || level < 1 {
				return s, nil, fmt.Errorf("-inflight is %q; want numbers such as 1,16,100", r.levels)
			}
			s.levels = append(s.levels, level)
		}
	}
	switch {
	case r.all:
		wanted = sections
	case len(wanted) == 0 && r.quick:
		wanted = []string{"worker"}
	case len(wanted) == 0:
		return s, nil, errors.New("say what to run: -all, -run " + strings.Join(sections, ",") + ", or -quick")
	}
	for _, name := range wanted {
		if !slices.Contains(sections, name) {
			return s, nil, fmt.Errorf("-run knows no %q; it knows %s", name, strings.Join(sections, ","))
		}
	}
	return s, wanted, nil
}

func (r *request) carryOut(ctx context.Context, out io.Writer) error {
	scale, wanted, err := r.check()
	if err != nil {
		return err
	}
	l := &lab{scale: scale, profile: r.profile, progress: func(text string) { log.Print(text) }}
	report, err := l.run(ctx, wanted)
	closing := l.close()
	if ctx.Err() != nil { // what else there is to say follows from it
		return errors.New("interrupted")
	}
	if err = errors.Join(err, closing); err != nil {
		return err
	}
	report.Quick = r.quick
	writeText(out, report)
	if r.jsonFile != "" {
		text, err := json.MarshalIndent(report, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(r.jsonFile, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	if failed := report.failures(); len(failed) > 0 {
		return fmt.Errorf("%d cases failed and have no figures:\n%s", len(failed), strings.Join(failed, "\n"))
	}
	if r.docs != "" {
		return writeDocs(r.docs, report)
	}
	return nil
}

// run runs the sections and concludes.
func (l *lab) run(ctx context.Context, wanted []string) (*Report, error) {
	report := &Report{Machine: thisMachine(ctx), Date: time.Now().UTC().Truncate(time.Minute), Rounds: l.rounds}
	has := func(name string) bool { return slices.Contains(wanted, name) }
	rows, err := l.processing(ctx, has("worker"), has("asynq"), has("river"))
	report.Rows = rows
	if err == nil && has("e2e") {
		rows, err = l.endToEnd(ctx)
		report.Rows = append(report.Rows, rows...)
	}
	if err == nil && has("enqueue") {
		err = l.enqueuing(ctx, report)
	}
	if err == nil && has("growth") {
		err = l.growth(ctx, report)
	}
	if err == nil && has("soak") {
		report.Soak, err = l.soaking(ctx)
	}
	report.Aims = aimsOf(report)
	report.Sizes = sizesOf(report)
	return report, errors.Join(err, ctx.Err())
}
