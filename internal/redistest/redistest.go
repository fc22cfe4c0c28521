// Package redistest runs real redis-server processes for tests: a single one, one
// that is killed and comes back, or a Redis Cluster. Each listens on a free
// loopback port, keeps its files in the test's own folder and is gone when the test
// ends.
//
// Where redis-server is not installed the test is skipped; with
// HANDOFF_REQUIRE_REDIS=1, which CI sets, it fails.
package redistest

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/internal/assert"
)

const (
	readyDeadline = 20 * time.Second // generous: a loaded machine with -race, an append-only file to load
	portAttempts  = 5                // a port that was free can be taken before the server binds it
)

// Start runs a redis-server until the end of the test and returns its address.
// The args are the server's own, in command-line form:
//
//	addr := redistest.Start(t, "--maxmemory", "2mb", "--maxmemory-policy", "allkeys-lru")
//
// Without args nothing is written to disk.
func Start(t testing.TB, args ...string) (addr string) {
	t.Helper()
	return Run(t, args...).Addr()
}

// Server is one redis-server of a test. Its methods are for the test's goroutine.
type Server struct {
	t    testing.TB
	bin  string
	dir  string
	port int
	args []string

	process *process // nil while the server is down
}

// Run is [Start] for tests that also take the server down.
func Run(t testing.TB, args ...string) *Server {
	t.Helper()
	s := &Server{t: t, bin: binary(t), dir: t.TempDir(), args: args}
	t.Cleanup(s.stop)
	for range portAttempts {
		s.port = freePort(t)
		err := s.start()
		if err == nil {
			return s
		}
		if !errors.Is(err, errPortTaken) {
			t.Fatal(err)
		}
	}
	t.Fatalf("redistest: %d free ports in a row were taken before redis-server had bound them", portAttempts)
	return nil
}

// Addr is the server's host:port. It stays the same over [Server.Restart].
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Kill ends the server at once (SIGKILL): connections break, and what was not yet
// on disk is lost.
func (s *Server) Kill() {
	s.t.Helper()
	if s.process == nil {
		s.t.Fatal("redistest: Kill of a server that is not running")
	}
	s.stop()
}

// Restart brings a killed server back at the same address. It has its data again
// when it was started with "--appendonly", "yes".
func (s *Server) Restart() {
	s.t.Helper()
	if s.process != nil {
		s.t.Fatal("redistest: Restart of a server that is running")
	}
	if err := s.start(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) stop() {
	if s.process != nil {
		s.process.kill()
		s.process = nil
	}
}

var errPortTaken = errors.New("redistest: port taken")

// start runs the server on s.port and returns when it answers.
func (s *Server) start() error {
	log := filepath.Join(s.dir, "log")
	// No snapshots and no rewrites: both fork a child, which would outlive a killed parent.
	args := append([]string{
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir,
		"--save", "", "--auto-aof-rewrite-percentage", "0",
	}, s.args...)
	p, err := startProcess(log, s.bin, args...)
	if err != nil {
		return err
	}
	ready := time.NewTimer(readyDeadline)
	defer ready.Stop()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case <-p.exited:
			said, _ := os.ReadFile(log)
			if bytes.Contains(said, []byte("Address already in use")) {
				return errPortTaken
			}
			return fmt.Errorf("redistest: redis-server ended at its start:\n%s", said)
		case <-ready.C:
			p.kill()
			said, _ := os.ReadFile(log)
			return fmt.Errorf("redistest: redis-server not ready after %v:\n%s", readyDeadline, said)
		case <-poll.C:
			if answers(s.Addr(), p.cmd.Process.Pid) {
				s.process = p
				return nil
			}
		}
	}
}
