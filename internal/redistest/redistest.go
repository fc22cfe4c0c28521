// Package redistest runs real redis-server processes for tests: a single server,
// which a test can kill and restart, a Sentinel, or a Redis Cluster. Each listens on a
// free loopback port, keeps its files in a temporary directory, and is ended with the
// test.
//
// If redis-server is not installed, the test is skipped. With HANDOFF_REQUIRE_REDIS=1,
// which CI sets, it fails instead.
package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	// readyDeadline allows for a loaded machine, -race, and loading an append-only
	// file.
	readyDeadline = 20 * time.Second
	// portAttempts is how many ports to try: another process may take a free port
	// before the server binds it.
	portAttempts = 5
)

// Start runs a redis-server until the end of the test and returns its host:port. The
// args are arguments of the redis-server command:
//
//	addr := redistest.Start(t, "--maxmemory", "2mb", "--maxmemory-policy", "allkeys-lru")
//
// Without args, the server writes no data to disk.
func Start(t testing.TB, args ...string) (addr string) {
	t.Helper()
	return Run(t, args...).Addr()
}

// Server is one redis-server of a test. Call its methods only in the goroutine of the
// test.
type Server struct {
	t      testing.TB
	bin    string
	dir    string
	config string // file; empty for none
	port   string
	args   []string

	process *process // nil while the server is down
}

// Run is like [Start], for tests that also kill the server.
func Run(t testing.TB, args ...string) *Server {
	t.Helper()
	s := &Server{t: t, bin: binary(t), dir: t.TempDir(), args: args}
	s.run()
	return s
}

// run starts the server on a free port until the end of the test.
func (s *Server) run() {
	s.t.Helper()
	s.t.Cleanup(s.stop)
	var err error
	for range portAttempts {
		s.port = freePort(s.t)
		if err = s.start(); !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// Addr returns the server's host:port. [Server.Restart] does not change it.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", s.port) }

// Kill ends the server at once (SIGKILL). Connections break, and data that was not yet
// on disk is lost.
func (s *Server) Kill() {
	s.t.Helper()
	if s.process == nil {
		s.t.Fatal("redistest: Kill of a server that is not running")
	}
	s.stop()
}

// Restart starts a killed server again at the same address. Its data is kept only if
// it was started with "--appendonly", "yes".
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

var errPortTaken = errors.New("redistest: the port was taken before redis-server had bound it")

// start runs the server on s.port and returns when it responds.
func (s *Server) start() error {
	log := filepath.Join(s.dir, "log")
	// No snapshots and no rewrites: both fork a child, which would outlive a killed server.
	args := []string{"--bind", "127.0.0.1", "--port", s.port, "--dir", s.dir, "--save", "", "--auto-aof-rewrite-percentage", "0"}
	if s.config != "" {
		args = slices.Insert(args, 0, s.config)
	}
	p, err := startProcess(log, s.bin, append(args, s.args...)...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyDeadline)
	defer cancel()
	client := connect(s.Addr())
	defer client.Close()
	for !responds(ctx, client, p.server.Process.Pid) {
		select {
		case <-p.exited:
			p.kill()
			said, _ := os.ReadFile(log)
			if strings.Contains(string(said), "Address already in use") {
				return errPortTaken
			}
			return fmt.Errorf("redistest: redis-server ended at its start:\n%s", said)
		case <-ctx.Done():
			p.kill()
			said, _ := os.ReadFile(log)
			return fmt.Errorf("redistest: redis-server not ready after %v:\n%s", readyDeadline, said)
		case <-time.After(5 * time.Millisecond):
		}
	}
	s.process = p
	return nil
}

// responds reports whether the server with this process ID responds. If it could not
// bind its port, another Redis may be responding there.
func responds(ctx context.Context, client *redis.Client, pid int) bool {
	// Dial first, because the client logs every refused connection.
	probe, err := net.Dial("tcp", client.Options().Addr)
	if err != nil {
		return false
	}
	_ = probe.Close()
	info, err := client.Info(ctx, "server").Result()
	return err == nil && strings.Contains(info, fmt.Sprintf("\r\nprocess_id:%d\r\n", pid))
}

func connect(addr string) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr:       addr,
		MaxRetries: -1, // the callers poll
		// Only Redis Enterprise supports this handshake.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

func binary(t testing.TB) string {
	t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("HANDOFF_REQUIRE_REDIS") == "1" {
			t.Fatalf("redistest: HANDOFF_REQUIRE_REDIS is set, and %v", err)
		}
		t.Skipf("redistest: needs redis-server: %v", err)
	}
	return bin
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("redistest: find a free port: %v", err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}
