package redistest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/redistest"
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

func client(t *testing.T, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	return c
}

func TestServersAreApart(t *testing.T) {
	t.Parallel()
	addrs := make([]string, 4)
	addrs[3] = redistest.Start(t) // not in a goroutine, because it may skip the test
	var starting sync.WaitGroup
	for i := range 3 {
		starting.Go(func() { addrs[i] = redistest.Start(t) })
	}
	starting.Wait()
	for i, addr := range addrs {
		stored, err := client(t, addr).SetNX(t.Context(), "who", i, 0).Result()
		assert.NoError(t, err)
		assert.Equal(t, stored, true)
	}
}

func TestArgsReachTheServer(t *testing.T) {
	t.Parallel()
	c := client(t, redistest.Start(t, "--maxmemory-policy", "allkeys-lru"))
	got, err := c.ConfigGet(t.Context(), "maxmemory-policy").Result()
	assert.NoError(t, err)
	assert.Equal(t, got, map[string]string{"maxmemory-policy": "allkeys-lru"})
}

func TestKillAndRestart(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args []string
		want error
	}{
		"in memory the data is lost": {nil, redis.Nil},
		"append-only it is kept":     {[]string{"--appendonly", "yes", "--appendfsync", "always"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Run(t, tc.args...)
			addr := s.Addr()
			c := client(t, addr)
			assert.NoError(t, c.Set(t.Context(), "k", "v", 0).Err())

			s.Kill()
			if conn, err := net.Dial("tcp", addr); err == nil {
				conn.Close()
				t.Fatal("a killed server accepts connections")
			}
			s.Restart()
			assert.Equal(t, s.Addr(), addr)
			assert.Equal(t, c.Get(t.Context(), "k").Err(), tc.want)
		})
	}
}

func TestClusterTakesWritesInEverySlot(t *testing.T) {
	t.Parallel()
	nodes := redistest.Cluster(t, 3)
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: nodes.Addrs()})
	defer c.Close()
	for i := range 200 {
		assert.NoError(t, c.Set(t.Context(), fmt.Sprintf("key-%d", i), i, 0).Err())
	}
	var mu sync.Mutex
	var total int64
	assert.NoError(t, c.ForEachMaster(t.Context(), func(ctx context.Context, node *redis.Client) error {
		n, err := node.DBSize(ctx).Result()
		mu.Lock()
		defer mu.Unlock()
		if total += n; n == 0 {
			return fmt.Errorf("%s has none of the keys", node)
		}
		return err
	}))
	assert.Equal(t, total, 200)
}

// outcome is a testing.TB that records how the test ended. A failure ends it as a
// skip does.
type outcome struct {
	testing.TB
	said string
}

func (o *outcome) Skipf(format string, args ...any) {
	o.said = "skipped: " + fmt.Sprintf(format, args...)
	o.SkipNow()
}

func (o *outcome) Fatal(args ...any) { o.Fatalf("%s", fmt.Sprint(args...)) }

func (o *outcome) Fatalf(format string, args ...any) {
	o.said = "failed: " + fmt.Sprintf(format, args...)
	o.SkipNow()
}

func TestWithoutRedis(t *testing.T) {
	for name, tc := range map[string]struct{ require, want string }{
		"skips":                 {"", "skipped: "},
		"names what is missing": {"", "redis-server"},
		"fails when required":   {"1", "failed: "},
		"says who required it":  {"1", "HANDOFF_REQUIRE_REDIS"},
	} {
		o := &outcome{}
		t.Run(name, func(t *testing.T) {
			t.Setenv("HANDOFF_REQUIRE_REDIS", tc.require)
			t.Setenv("PATH", t.TempDir())
			o.TB = t
			redistest.Start(o)
		})
		if !strings.Contains(o.said, tc.want) {
			t.Errorf("%s: got %q, want %q in it", name, o.said, tc.want)
		}
	}
}

func TestBadArgsShowTheServersWords(t *testing.T) {
	t.Parallel()
	redistest.Start(t) // skips the test if redis-server is not installed
	o := &outcome{}
	t.Run("start", func(t *testing.T) {
		o.TB = t
		redistest.Start(o, "--no-such-option", "1")
	})
	assert.ErrorContains(t, errors.New(o.said), "failed: ", "no-such-option")
}

// A test process that panics or times out runs no cleanups.
func TestServerEndsWithItsTestProcess(t *testing.T) {
	t.Parallel()
	addr := redistest.Start(t) // skips the test if redis-server is not installed
	if os.Getenv("REDISTEST_EXIT") == "1" {
		fmt.Println(addr)
		os.Exit(0)
	}
	self := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	self.Env = append(os.Environ(), "REDISTEST_EXIT=1", "TMPDIR="+t.TempDir())
	out, err := self.Output()
	assert.NoError(t, err)
	addr = strings.TrimSpace(string(out))
	assert.Eventually(t, 10*time.Second, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err != nil
	}, "the server at "+addr+" to end")
}
