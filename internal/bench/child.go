package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/brillconsulting/handoff/internal/bench/producer"
)

// setup is what a child is told when it starts.
type setup struct {
	Variant     string // which one of its role
	Redis       string // address
	Postgres    string // connection string
	Keys        string // URL of the keys that tokens are signed with
	Emulator    string // address of its gRPC API
	Worker      string // base URL
	Kinds       int    // that the worker has handlers for
	CPUProfile  string // file to write one to
	RedisPID    int
	PostgresPID int
	EmulatorPID int
}

// order is what a child is asked to do next.
type order struct {
	Do      string
	Tasks   int
	Rounds  int
	Callers int
	Rate    float64 // tasks a second; 0: as fast as it goes
}

// answer is what a child has to say to its setup or to an order.
type answer struct {
	Error     string
	Addr      string // where it serves
	Keys      string // where it serves keys
	Tasks     int    // handled so far
	P50, P99  time.Duration
	Allocated uint64 // bytes, so far
	Heap      uint64 // bytes in use
	Costs     []producer.Costs
}

// role is what a child is: it carries out orders one at a time until it is
// closed.
type role interface {
	carryOut(ctx context.Context, o order) (answer, error)
	close() error
}

// roles are the processes that this program can be. Each begins with an answer.
var roles = map[string]func(ctx context.Context, s setup) (role, answer, error){
	"worker":   newWorker,
	"asynq":    newAsynqWorker,
	"river":    newRiverWorker,
	"emulator": newEmulator,
	"producer": newProducer,
}

// serveRole is the child's side: setup and orders come in as JSON, answers go
// out. The end of its input ends the child, so that it cannot outlive its
// parent.
func serveRole(ctx context.Context, name string, in io.Reader, out io.Writer) error {
	newRole, ok := roles[name]
	if !ok {
		return fmt.Errorf("no role %q", name)
	}
	orders, answers := json.NewDecoder(in), json.NewEncoder(out)
	var s setup
	if err := orders.Decode(&s); err != nil {
		return err
	}
	r, first, err := newRole(ctx, s)
	if err != nil {
		first.Error = err.Error()
	}
	if err = errors.Join(err, answers.Encode(first)); err != nil {
		return err
	}
	for {
		var o order
		if err := orders.Decode(&o); err != nil {
			return r.close()
		}
		a, err := r.carryOut(ctx, o)
		if err != nil {
			a.Error = err.Error()
		}
		if err := answers.Encode(a); err != nil {
			return errors.Join(err, r.close())
		}
	}
}

// child is the parent's side: a process of this program in a role, whose CPU
// is counted apart.
type child struct {
	name    string
	first   answer
	cmd     *exec.Cmd
	in      io.WriteCloser
	orders  *json.Encoder
	answers *json.Decoder
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
	c := &child{name: name, cmd: cmd, in: in, orders: json.NewEncoder(in), answers: json.NewDecoder(out)}
	if c.first, err = c.exchange(s); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

// asRole is the environment variable that tells a process of this program, or of
// its tests, that it is a child.
const asRole = "HANDOFF_BENCH_ROLE"

func (c *child) ask(o order) (answer, error) { return c.exchange(o) }

func (c *child) exchange(message any) (answer, error) {
	var a answer
	if err := c.orders.Encode(message); err != nil {
		return a, fmt.Errorf("%s: %w", c.name, err)
	}
	if err := c.answers.Decode(&a); err != nil {
		return a, fmt.Errorf("%s: %w", c.name, err)
	}
	if a.Error != "" {
		return a, fmt.Errorf("%s: %s", c.name, a.Error)
	}
	return a, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// patience is how long a process may take to end.
const patience = 20 * time.Second

func (c *child) stop() error {
	_ = c.in.Close()
	late := time.AfterFunc(patience, func() { _ = c.cmd.Process.Kill() })
	defer late.Stop()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	return nil
}
