package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// process is a process that is measured. It ends when its standard input is
// closed or it gets a signal.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	cancel context.CancelFunc
}

// begin starts a program and returns the first line that it prints.
func begin(ctx context.Context, program string, args ...string) (*process, string, error) {
	ctx, cancel := context.WithCancel(ctx)
	p := &process{cmd: exec.CommandContext(ctx, program, args...), cancel: cancel}
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(os.Interrupt) }
	p.cmd.WaitDelay = 15 * time.Second // over what the emulator gives to attempts in flight
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		cancel()
		return nil, "", err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		cancel()
		return nil, "", err
	}
	p.in, p.out = in, bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		cancel()
		return nil, "", err
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.end()
		return nil, "", fmt.Errorf("%s did not start: %w", program, err)
	}
	return p, strings.TrimSpace(line), nil
}

// end ends the process. How it ends tells nothing: it was told to.
func (p *process) end() {
	_ = p.in.Close()
	p.cancel()
	_ = p.cmd.Wait()
}

// tick is the unit in which Linux gives out CPU time, on every architecture
// that Go knows.
const tick = 10 * time.Millisecond

// cpu is the time that the process has used, user and system: fields 14 and
// 15 of proc_pid_stat(5), counted after the name, which may hold anything.
func (p *process) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc has %q", stat)
	}
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// rss is the resident memory of the process, in bytes.
func (p *process) rss() (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
			return kb * 1024, err
		}
	}
	return 0, fmt.Errorf("/proc has no VmRSS of process %d", p.cmd.Process.Pid)
}

// cost is the CPU time that the process uses while run runs, in µs for each
// of n.
func (p *process) cost(n int, run func() error) (float64, error) {
	before, err := p.cpu()
	if err != nil {
		return 0, err
	}
	if err := run(); err != nil {
		return 0, err
	}
	after, err := p.cpu()
	return float64((after - before).Microseconds()) / float64(n), err
}
