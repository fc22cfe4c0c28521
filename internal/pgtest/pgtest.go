// Package pgtest runs real PostgreSQL servers for tests. Each listens on a free
// loopback port and keeps its files in its own folder. It is ended, and its files
// are removed, when the test ends or the process that started it dies.
//
// If PostgreSQL is not installed, the test is skipped. With
// HANDOFF_REQUIRE_POSTGRES=1, which CI sets, it fails instead.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// readyDeadline allows for a loaded machine and for recovery from the log.
const readyDeadline = time.Minute

// Server is one PostgreSQL server. Its methods are for one goroutine at a time.
type Server struct {
	bin  string // folder of PostgreSQL's programs
	dir  string
	port string
	args []string
	as   *syscall.Credential // nil for the user of this process

	process  *exec.Cmd
	exited   chan struct{} // closed when process has ended
	watchdog *exec.Cmd     // ends the server and removes its folder if this process dies
}

// Start runs a server until the end of the test. The args are arguments of the
// postgres command:
//
//	server := pgtest.Start(t, "-c", "max_connections=200")
//
// Unless they say otherwise, nothing is synced to disk: data survives a kill of the
// server, but not a power failure.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s, err := New(args...)
	if errors.Is(err, ErrNotInstalled) && os.Getenv("HANDOFF_REQUIRE_POSTGRES") != "1" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// ErrNotInstalled is returned by [New] if PostgreSQL is not installed.
var ErrNotInstalled = errors.New("pgtest: no initdb in /usr/lib/postgresql/*/bin or on the PATH; apt-get install postgresql")

// New is like [Start], for a server that several tests share. The caller must close
// it.
func New(args ...string) (*Server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, args: args}
	if s.dir, err = os.MkdirTemp("", "handoff-postgres-"); err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	if err := s.create(); err != nil {
		_ = os.RemoveAll(s.dir)
		return nil, err
	}
	if err := s.start(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// create initialises the data folder and finds a free port.
func (s *Server) create() error {
	if os.Getuid() == 0 { // PostgreSQL refuses to run as root
		var err error
		if s.as, err = credential("postgres"); err != nil {
			return err
		}
		if err := os.Chown(s.dir, int(s.as.Uid), int(s.as.Gid)); err != nil {
			return fmt.Errorf("pgtest: %w", err)
		}
	}
	initdb := s.command("initdb", "-D", s.data(), "-U", "test", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8")
	if said, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("pgtest: initdb: %w\n%s", err, said)
	}
	var err error
	s.port, err = freePort()
	return err
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, program), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	return cmd
}

// URL returns the connection string of the server's database.
func (s *Server) URL() string {
	return "postgres://test@" + s.Addr() + "/postgres?sslmode=disable"
}

// Addr returns the server's host:port. It stays the same over [Server.Restart].
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", s.port) }

// PID returns the process ID of the running server.
func (s *Server) PID() int { return s.process.Process.Pid }

func (s *Server) start() error {
	args := slices.Concat([]string{"-D", s.data(), "-p", s.port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"}, s.args)
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	defer log.Close() // the child has its own descriptor
	s.process = s.command("postgres", args...)
	s.process.Stdout, s.process.Stderr = log, log
	if err := s.process.Start(); err != nil {
		return fmt.Errorf("pgtest: start postgres: %w", err)
	}
	exited := make(chan struct{})
	s.exited = exited
	go func(process *exec.Cmd) {
		_ = process.Wait() // the log says how it ended
		close(exited)
	}(s.process)
	if err := s.watch(); err != nil {
		return err
	}
	return s.ready()
}

// watch starts the watchdog: a shell that waits for the end of this process.
func (s *Server) watch() error {
	s.watchdog = exec.Command("sh", "-c", `read _; kill -9 "$0"; rm -rf "$1"`, strconv.Itoa(s.PID()), s.dir)
	_, err := s.watchdog.StdinPipe()
	if err == nil {
		err = s.watchdog.Start()
	}
	if err != nil {
		return fmt.Errorf("pgtest: start the watchdog: %w", err)
	}
	return nil
}

func (s *Server) unwatch() {
	_ = s.watchdog.Process.Kill()
	_ = s.watchdog.Wait()
}

func (s *Server) logFile() string { return filepath.Join(s.dir, "log") }

func (s *Server) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyDeadline)
	defer cancel()
	for {
		probe := s.command("pg_isready", "-q", "-h", "127.0.0.1", "-p", s.port)
		if probe.Run() == nil {
			return nil
		}
		select {
		case <-s.exited:
			said, _ := os.ReadFile(s.logFile())
			return fmt.Errorf("pgtest: postgres ended at its start:\n%s", said)
		case <-ctx.Done():
			said, _ := os.ReadFile(s.logFile())
			return fmt.Errorf("pgtest: postgres not ready after %v:\n%s", readyDeadline, said)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Kill ends the server at once (SIGKILL), as a crash of the machine would. It
// returns when the port is closed: the server's children keep it open until they
// notice that their parent has ended.
func (s *Server) Kill() {
	if s.process == nil {
		return
	}
	s.unwatch() // first, because once the server is reaped, another process may get its ID
	_ = s.process.Process.Kill()
	<-s.exited
	s.process = nil
	for deadline := time.Now().Add(readyDeadline); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		conn, err := net.Dial("tcp", s.Addr())
		if err != nil {
			return
		}
		_ = conn.Close()
	}
}

// Restart brings a killed server back at the same address, with its data. It
// retries while children of the killed server still hold its shared memory, because
// PostgreSQL refuses to start until then.
func (s *Server) Restart() error {
	deadline := time.Now().Add(readyDeadline)
	for {
		err := s.start()
		if err == nil || !strings.Contains(err.Error(), "pre-existing shared memory") || time.Now().After(deadline) {
			return err
		}
		s.unwatch()
		if err := os.Truncate(s.logFile(), 0); err != nil {
			return fmt.Errorf("pgtest: %w", err)
		}
	}
}

// Close ends the server and removes its files.
func (s *Server) Close() {
	s.Kill()
	_ = os.RemoveAll(s.dir)
}

// binaries returns the folder of initdb and postgres, which Debian does not put on
// the PATH.
func binaries() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1]), nil
	}
	path, err := exec.LookPath("initdb")
	if err == nil {
		path, err = filepath.EvalSymlinks(path) // the other programs are beside the link's target
	}
	if err != nil {
		return "", ErrNotInstalled
	}
	return filepath.Dir(path), nil
}

func credential(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(uidErr, gidErr)
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("pgtest: find a free port: %w", err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port), nil
}
