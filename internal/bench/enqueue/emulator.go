package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/brillconsulting/handoff/emulator"
)

// serveEmulator is the emulator's process: it says where it listens, and ends
// when its standard input does, so that it cannot outlive its parent.
func serveEmulator() {
	srv, err := emulator.New(emulator.Config{GRPCAddr: "127.0.0.1:0", TaskWindow: -1, History: -1})
	check(err)
	defer srv.Close()
	fmt.Fprintln(os.Stdout, srv.GRPCAddr())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func startEmulator(ctx context.Context) (addr string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	child := exec.CommandContext(ctx, self, "-serve")
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	out, err := child.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := child.Start(); err != nil {
		return "", nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return "", nil, fmt.Errorf("the emulator did not start: %w", err)
	}
	return strings.TrimSpace(line), func() {
		_ = in.Close()
		_ = child.Wait()
	}, nil
}
