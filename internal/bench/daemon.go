package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// daemon is a server that is not ours, on a free port, with its files in a
// directory of its own.
type daemon struct {
	name string
	addr string
	dir  string
	cmd  *exec.Cmd
	end  os.Signal // asks it to stop
}

func (d *daemon) pid() int { return d.cmd.Process.Pid }

func (d *daemon) stop() error {
	defer os.RemoveAll(d.dir)
	if d.cmd == nil {
		return nil
	}
	_ = d.cmd.Process.Signal(d.end)
	late := time.AfterFunc(patience, func() { _ = d.cmd.Process.Kill() })
	defer late.Stop()
	if err := d.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	return nil
}

// start runs the server and waits until it answers.
func (d *daemon) start(ctx context.Context, cmd *exec.Cmd, answers func(ctx context.Context) error) error {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Cancel = func() error { return cmd.Process.Signal(d.end) }
	if err := cmd.Start(); err != nil {
		return err
	}
	d.cmd = cmd
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := answers(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s does not answer: %w", d.name, err), d.stop(), errors.New(said.String()))
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

// startPostgres makes a cluster with initdb's defaults and serves it. PostgreSQL
// refuses to run as root: root runs it as its own user.
func startPostgres(ctx context.Context) (*daemon, error) {
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	d, port, err := newDaemon("postgres", syscall.SIGINT)
	if err != nil {
		return nil, err
	}
	as := &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if os.Getuid() == 0 {
		if as.Credential, err = credential("postgres"); err != nil {
			return nil, err
		}
		if err := os.Chown(d.dir, int(as.Credential.Uid), int(as.Credential.Gid)); err != nil {
			return nil, err
		}
	}
	data := filepath.Join(d.dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", data, "-U", "bench", "-A", "trust", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = as, d.dir
	if said, err := initdb.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w\n%s", err, said), d.stop())
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "-D", data, "-p", port,
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="+d.dir)
	cmd.SysProcAttr, cmd.Dir = as, d.dir
	return d, d.start(ctx, cmd, func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, d.postgres())
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
}

func (d *daemon) postgres() string { return "postgres://bench@" + d.addr + "/postgres?sslmode=disable" }

// postgresBin is where Debian has the programs that are not for everybody.
func postgresBin() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		found = append(found, path)
	}
	if len(found) == 0 {
		return "", errors.New("no initdb in /usr/lib/postgresql or on the PATH; apt-get install postgresql")
	}
	return filepath.Dir(found[len(found)-1]), nil
}

func credential(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
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
