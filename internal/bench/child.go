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

// setup is sent to a child when it starts.
type setup struct {
	Variant  string // of the role
	Redis    string // address
	Keys     string // URL of the keys that tokens are signed with
	Emulator string // address of its gRPC API
	Worker   string // base URL
}

// command tells a child what to do next.
type command struct {
	Do      string
	Tasks   int
	Rounds  int
	Callers int
	Rate    float64 // tasks a second
}

// reply is a child's response to its setup or to a command.
type reply struct {
	Error     string
	Addr      string // where it serves
	Tasks     int    // handled so far
	Allocated uint64 // bytes, so far
	Heap      uint64 // peak, in bytes
	Costs     [][]measure.Cost
}

// A role executes one command at a time until it is closed.
type role interface {
	do(ctx context.Context, c command) (reply, error)
	close() error
}

// roles holds the constructors of all roles, by name. Each also returns the reply
// to its setup.
var roles = map[string]func(ctx context.Context, s setup) (role, reply, error){
	"worker":   newWorker,
	"asynq":    newAsynqWorker,
	"emulator": newEmulator,
	"producer": newProducer,
	"sender":   newSender,
}

// serveRole runs a child: it reads the setup and commands as JSON and writes
// replies. It returns at the end of its input, so that a child cannot outlive its
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

// child is the parent's handle of a child process. Running a role in its own
// process lets its CPU time be measured separately.
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

// asRole is the environment variable that makes a process of this program, or of
// its tests, a child.
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
