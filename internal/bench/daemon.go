package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// daemon is an external server, on a free port, with its own directory for files.
type daemon struct {
	name string
	addr string
	dir  string
	cmd  *exec.Cmd
	end  os.Signal // the signal that stops it
}

func (d *daemon) pid() int { return d.cmd.Process.Pid }

func (d *daemon) stop() error {
	defer os.RemoveAll(d.dir)
	if d.cmd == nil {
		return nil
	}
	_ = d.cmd.Process.Signal(d.end)
	late := time.AfterFunc(stopTimeout, func() { _ = d.cmd.Process.Kill() })
	defer late.Stop()
	if err := d.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	return nil
}

// start runs the server and waits until it responds.
func (d *daemon) start(ctx context.Context, cmd *exec.Cmd, probe func(ctx context.Context) error) error {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Cancel = func() error { return cmd.Process.Signal(d.end) }
	if err := cmd.Start(); err != nil {
		return err
	}
	d.cmd = cmd
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	for {
		err := probe(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s does not respond: %w", d.name, err), d.stop(), errors.New(said.String()))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// startRedis runs a redis-server that writes nothing to disk.
func startRedis(ctx context.Context) (*daemon, error) {
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("%w; apt-get install redis-server", err)
	}
	d, port, err := newDaemon("redis-server", syscall.SIGTERM)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, bin, "--bind", "127.0.0.1", "--port", port, "--dir", d.dir, "--save", "")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	rdb := redis.NewClient(&redis.Options{Addr: d.addr, MaxRetries: -1})
	defer rdb.Close()
	return d, d.start(ctx, cmd, func(ctx context.Context) error {
		probe, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.addr) // a client would log that it is refused
		if err != nil {
			return err
		}
		_ = probe.Close()
		return rdb.Ping(ctx).Err()
	})
}

func newDaemon(name string, end os.Signal) (d *daemon, port string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	defer l.Close()
	addr := l.Addr().String()
	_, port, err = net.SplitHostPort(addr)
	if err != nil {
		return nil, "", err
	}
	dir, err := os.MkdirTemp("", "handoff-bench-")
	return &daemon{name: name, addr: addr, dir: dir, end: end}, port, err
}
