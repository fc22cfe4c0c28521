// Command emulator measures what `handoff emulator` costs: the program, built
// once and run as a process of its own, Google's client and a target for its
// dispatches in this one, over loopback. CPU time and memory are the
// emulator's alone, as Linux accounts for them in /proc.
//
//	go run -C internal/bench ./emulator                # ten minutes, a million tasks
//	go run -C internal/bench ./emulator -quick         # a tenth of everything
//	go run -C internal/bench ./emulator -all           # five million tasks too, in 4 GB
//	go run -C internal/bench ./emulator -run 'create|late' -json
//
// A row in which anything failed, or any task went missing, has no figures.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

func main() {
	log.SetFlags(0)
	pattern := flag.String("run", "", "only the rows whose name matches this regular expression")
	quick := flag.Bool("quick", false, "a tenth of the tasks and of the time: whether it runs, not how fast")
	all := flag.Bool("all", false, "the figures with five million tasks as well")
	asJSON := flag.Bool("json", false, "print a JSON object a figure")
	program := flag.String("program", "", "measure this build of the program instead of a new one")
	serve := flag.String("serve", "", "be a bare server or client (grpc, relay, http), to compare with")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var err error
	switch {
	case *serve != "":
		err = serveBare(ctx, *serve)
	default:
		l := &lab{program: *program, scale: 1, rounds: 7, all: *all}
		if *quick {
			l.scale, l.rounds = 10, 3
		}
		err = measureRows(ctx, l, *pattern, *asJSON, os.Stdout)
	}
	if err != nil {
		stop()
		log.Fatal(err) //nolint:gocritic // stop has run
	}
}

// measureRows measures the rows that match, one after the other, and prints
// each as soon as it is there.
func measureRows(ctx context.Context, l *lab, pattern string, asJSON bool, to io.Writer) error {
	chosen, err := regexp.Compile("^(" + pattern + ")")
	if err != nil {
		return err
	}
	if l.program == "" {
		dir, err := os.MkdirTemp("", "handoff-bench")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		if l.program, err = build(ctx, dir); err != nil {
			return err
		}
	}
	out := newReport(to, asJSON)
	var errs []error
	for _, r := range rows {
		if !chosen.MatchString(r.name) {
			continue
		}
		figures, err := l.measure(ctx, r)
		if err == nil {
			err = out.print(r, figures)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: no figures: %w", r.name, err))
		}
	}
	return errors.Join(errs...)
}

// build builds the program of the module that this one is nested in.
func build(ctx context.Context, dir string) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/brillconsulting/handoff").Output()
	if err != nil {
		return "", fmt.Errorf("finding the module: %w", err)
	}
	program := filepath.Join(dir, "handoff")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/handoff")
	cmd.Dir = strings.TrimSpace(string(root))
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the program: %w\n%s", err, out)
	}
	return program, nil
}
