package main

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// fleet is the worker processes, and the way that dispatches find one.
type fleet struct {
	role      string // of its processes
	dir, url  string
	emulator  string // host:port of its gRPC
	ledger    *ledger
	transport *http.Transport

	mu      sync.Mutex
	slots   []*slot
	failed  []error // workers that ended otherwise than they were told to
	closing bool
	wg      sync.WaitGroup
}

// slot is the place of one worker: the process changes, the proxy stays.
type slot struct {
	proxy *proxy
	cmd   *exec.Cmd
	addr  string // empty while no worker takes dispatches
}

// launch starts a worker in the slot and, whenever it is gone, the next one.
func (f *fleet) launch(s *slot) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), envRole+"="+f.role, envDir+"="+f.dir, envStore+"="+s.proxy.addr(),
		envURL+"="+f.url, "CLOUD_TASKS_EMULATOR_HOST="+f.emulator, "GOMAXPROCS=2")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = cmd.Process.Kill()
		return errors.Join(fmt.Errorf("worker did not start: %w", err), cmd.Wait())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s.cmd, s.addr = cmd, strings.TrimSpace(addr)
	f.wg.Go(func() { f.watch(s, cmd) })
	return nil
}

func (f *fleet) watch(s *slot, cmd *exec.Cmd) {
	err := cmd.Wait()
	f.ledger.write(event{What: evExit, PID: cmd.Process.Pid})
	f.mu.Lock()
	s.addr = ""
	closing := f.closing
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() >= 0 { // not by a signal
		f.failed = append(f.failed, fmt.Errorf("worker %d: %w", cmd.Process.Pid, err))
	}
	f.mu.Unlock()
	if closing {
		return
	}
	if err := f.launch(s); err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.failed = append(f.failed, err)
	}
}

// signal sends sig to a random worker. One that is to drain gets no more
// dispatches, as the platform would have it.
func (f *fleet) signal(random *rand.Rand, sig syscall.Signal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.slots[random.IntN(len(f.slots))]
	if s.addr == "" {
		return
	}
	if sig == syscall.SIGTERM {
		s.addr = ""
	}
	_ = s.cmd.Process.Signal(sig)
}

// stop has a random worker stand still until the returned function is called, which
// is nil if there is no such worker.
func (f *fleet) stop(random *rand.Rand) (resume func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.slots[random.IntN(len(f.slots))]
	if s.addr == "" {
		return nil
	}
	process := s.cmd.Process
	f.ledger.write(event{What: evStopped, PID: process.Pid})
	_ = process.Signal(syscall.SIGSTOP)
	return func() {
		_ = process.Signal(syscall.SIGCONT)
		f.ledger.write(event{What: evResumed, PID: process.Pid})
	}
}

// RoundTrip carries a dispatch to a random worker.
func (f *fleet) RoundTrip(req *http.Request) (*http.Response, error) {
	f.mu.Lock()
	var alive []string
	for _, s := range f.slots {
		if s.addr != "" {
			alive = append(alive, s.addr)
		}
	}
	f.mu.Unlock()
	if len(alive) == 0 {
		return nil, errors.New("no worker is up")
	}
	out := req.Clone(req.Context())
	out.URL.Scheme, out.URL.Host = "http", alive[rand.IntN(len(alive))]
	return f.transport.RoundTrip(out)
}

// close drains the workers and returns what any of them did wrong.
func (f *fleet) close() error {
	f.mu.Lock()
	f.closing = true
	for _, s := range f.slots {
		if s.cmd != nil {
			_ = s.cmd.Process.Signal(syscall.SIGTERM)
		}
	}
	f.mu.Unlock()
	stuck := time.AfterFunc(20*time.Second, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.failed = append(f.failed, errors.New("a worker did not end 20 s after SIGTERM"))
		for _, s := range f.slots {
			_ = s.cmd.Process.Kill()
		}
	})
	defer stuck.Stop()
	f.wg.Wait()
	for _, s := range f.slots {
		s.proxy.close()
	}
	f.transport.CloseIdleConnections()
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.failed...)
}
