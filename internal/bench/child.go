package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"time"

	"github.com/brillconsulting/handoff/internal/bench/measure"
)

// setup is what a child is told when it starts.
type setup struct {
	Variant  string // which one of its role
	Redis    string // address
	Keys     string // URL of the keys that tokens are signed with
	Emulator string // address of its gRPC API
	Worker   string // base URL
}

// command is what a child is asked to do next.
type command struct {
	Do      string
	Tasks   int
	Rounds  int
	Callers int
	Rate    float64 // tasks a second
}

// reply is what a child has to say to its setup or to a command.
type reply struct {
	Error     string
	Addr      string // where it serves
	Tasks     int    // handled so far
	Allocated uint64 // bytes, so far
	Heap      uint64 // bytes at most
	Costs     [][]measure.Cost
}

// role is what a child is: it does one command at a time until it is closed.
type role interface {
	do(ctx context.Context, c command) (reply, error)
	close() error
}

// roles are the processes that this program can be. Each begins with a reply.
var roles = map[string]func(ctx context.Context, s setup) (role, reply, error){
	"worker":   newWorker,
	"asynq":    newAsynqWorker,
	"emulator": newEmulator,
	"producer": newProducer,
	"sender":   newSender,
}

// serveRole is the child's side: setup and commands come in as JSON, replies go
// out. The end of its input ends the child, so that it cannot outlive its
// parent.
func serveRole(ctx context.Context, name string, in io.Reader, out io.Writer) error {
	newRole, ok := roles[name]
	if !ok {
		return fmt.Errorf("no role %q", name)
	}
	commands, replies := json.NewDecoder(in), json.NewEncoder(out)
	var s setup
	if err := commands.Decode(&s); err != nil {
		return err
	}
	r, first, err := newRole(ctx, s)
	if err != nil {
		first.Error = err.Error()
	}
	if err = errors.Join(err, replies.Encode(first)); err != nil {
		return err
	}
	for {
		var c command
		if err := commands.Decode(&c); err != nil {
			return r.close()
		}
		done, err := r.do(ctx, c)
		if err != nil {
			done.Error = err.Error()
		}
		if err := replies.Encode(done); err != nil {
			return errors.Join(err, r.close())
		}
	}
}

// child is the parent's side: a process of this program in a role, whose CPU
// is counted apart.
type child struct {
	name     string
	first    reply
	cmd      *exec.Cmd
	in       io.WriteCloser
	commands *json.Encoder
	replies  *json.Decoder
}

func startChild(ctx context.Context, name string, s setup) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), asRole+"="+name)
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
	c := &child{name: name, cmd: cmd, in: in, commands: json.NewEncoder(in), replies: json.NewDecoder(out)}
	if c.first, err = c.exchange(s); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

// asRole is the environment variable that tells a process of this program, or of
// its tests, that it is a child.
const asRole = "HANDOFF_BENCH_ROLE"

func (c *child) ask(what command) (reply, error) { return c.exchange(what) }

func (c *child) exchange(message any) (reply, error) {
	var r reply
	if err := c.commands.Encode(message); err != nil {
		return r, fmt.Errorf("%s: %w", c.name, err)
	}
	if err := c.replies.Decode(&r); err != nil {
		return r, fmt.Errorf("%s: %w", c.name, err)
	}
	if r.Error != "" {
		return r, fmt.Errorf("%s: %s", c.name, r.Error)
	}
	return r, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// stopTimeout is how long a process may take to end.
const stopTimeout = 20 * time.Second

func (c *child) stop() error {
	_ = c.in.Close()
	late := time.AfterFunc(stopTimeout, func() { _ = c.cmd.Process.Kill() })
	defer late.Stop()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	return nil
}

// serve serves HTTP on a free port.
func serve(h http.Handler) (addr string, server *http.Server, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server = &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	return l.Addr().String(), server, nil
}
