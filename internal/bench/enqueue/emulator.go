package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/brillconsulting/handoff/emulator"
)

// serveEmulator is the emulator's process: it says where it listens, and ends
// when its standard input does, so that it cannot outlive its parent.
func serveEmulator() error {
	srv, err := emulator.New(emulator.Config{GRPCAddr: "127.0.0.1:0", NoLimits: true, TaskWindow: -1, History: -1})
	if err != nil {
		return err
	}
	defer srv.Close()
	fmt.Fprintln(os.Stdout, srv.GRPCAddr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

type emulatorProcess struct {
	addr string

	cmd *exec.Cmd
	in  io.Closer
}

func startEmulator(ctx context.Context) (*emulatorProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "-serve")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &emulatorProcess{cmd: cmd, in: in}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the emulator did not start: %w", err), p.stop())
	}
	p.addr = strings.TrimSpace(line)
	return p, nil
}

func (p *emulatorProcess) pid() int { return p.cmd.Process.Pid }

func (p *emulatorProcess) stop() error { return errors.Join(p.in.Close(), p.cmd.Wait()) }
