package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// outboxProgram is a program of its own, since it brings drivers of databases.
const outboxProgram = "handoff-outbox"

type outboxCmd struct {
	Args []string `arg:"" help:"list, retry or drop; handoff outbox --help says more." optional:""`
}

// Run starts the program with the arguments of the command.
func (c *outboxCmd) Run(ctx context.Context, con *console) error {
	path, err := findOutbox()
	if err != nil {
		return fmt.Errorf("%w; it is a program of its own: put it beside handoff or on the PATH", err)
	}
	cmd := exec.CommandContext(ctx, path, c.Args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = con.in, con.out, con.err
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return exitCode(exit.ExitCode()) // it printed the error
	}
	return err
}

// findOutbox looks beside this program, and then on the PATH.
func findOutbox() (string, error) {
	if self, err := os.Executable(); err == nil {
		if path, err := exec.LookPath(filepath.Join(filepath.Dir(self), outboxProgram)); err == nil {
			return path, nil
		}
	}
	return exec.LookPath(outboxProgram)
}
