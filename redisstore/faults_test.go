package redisstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/redisstore"
)

// responding returns a client of a server that sends the same bytes in response to
// every script. A real server sends them only when it is in trouble.
func responding(t *testing.T, response string) redis.UniversalClient {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				serveResponse(conn, response)
			})
		}
	})
	rdb := redis.NewClient(&redis.Options{Addr: l.Addr().String(), ContextTimeoutEnabled: true, MaxRetries: -1, Protocol: 2, DisableIdentity: true})
	t.Cleanup(func() {
		_ = rdb.Close()
		_ = l.Close()
		serving.Wait()
	})
	return rdb
}

func serveResponse(conn io.ReadWriter, response string) {
	in := bufio.NewReader(conn)
	for {
		command, err := readCommand(in)
		if err != nil {
			return
		}
		reply := "+OK\r\n"
		if name := strings.ToUpper(command[0]); name == "EVALSHA" || name == "EVAL" || name == "GET" {
			reply = response
		}
		if _, err := io.WriteString(conn, reply); err != nil {
			return
		}
	}
}

// readCommand reads one command: an array of bulk strings.
func readCommand(in *bufio.Reader) ([]string, error) {
	n, err := readLength(in, '*')
	if err != nil {
		return nil, err
	}
	command := make([]string, n)
	for i := range command {
		size, err := readLength(in, '$')
		if err != nil {
			return nil, err
		}
		word := make([]byte, size+2)
		if _, err := io.ReadFull(in, word); err != nil {
			return nil, err
		}
		command[i] = string(word[:size])
	}
	return command, nil
}

func readLength(in *bufio.Reader, kind byte) (int, error) {
	line, err := in.ReadString('\n')
	if err != nil || line[0] != kind {
		return 0, errors.Join(err, fmt.Errorf("unexpected line %q", line))
	}
	return strconv.Atoi(strings.TrimSpace(line[1:]))
}

// TestRedisInTrouble: every call returns a clear error, never ErrLeaseLost. The
// response to a delivery is 503, and its handler does not run.
func TestRedisInTrouble(t *testing.T) {
	t.Parallel()
	lease := handoff.Lease{Key: "k", Owner: "o", TTL: time.Second, Window: time.Minute}
	for name, response := range map[string]string{
		"OOM":              "-OOM command not allowed when used memory > 'maxmemory'.\r\n",
		"READONLY":         "-READONLY You can't write against a read only replica.\r\n",
		"LOADING":          "-LOADING Redis is loading the dataset in memory\r\n",
		"CLUSTERDOWN":      "-CLUSTERDOWN The cluster is down\r\n",
		"NOAUTH":           "-NOAUTH Authentication required.\r\n",
		"NOSCRIPT forever": "-NOSCRIPT No matching script. Please use EVAL.\r\n",
		"a script error":   "-ERR user_script:1: Script attempted to access nonexistent global variable\r\n",
		"a wrong type":     "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
		"garbage":          "%garbage%\r\n",
		"nil":              "$-1\r\n",
		"words":            "$5\r\nhello\r\n",
		"a short array":    "*2\r\n$1\r\nR\r\n:1\r\n",
		"an odd array":     "*6\r\n$1\r\nZ\r\n:1\r\n:1\r\n:1\r\n:0\r\n$0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := responding(t, response)
			store := redisstore.New(rdb, nil)
			_, claimErr := store.Claim(t.Context(), lease)
			_, renewErr := store.Renew(t.Context(), []handoff.Lease{lease})
			letters := redisstore.NewDeadLetters(rdb, nil)
			_, listErr := letters.List(t.Context(), handoff.DeadLetterQuery{})
			for verb, err := range map[string]error{
				"claim":             claimErr,
				"renew":             renewErr,
				"complete":          store.Complete(t.Context(), lease),
				"release":           store.Release(t.Context(), lease, true),
				"end":               store.End(t.Context(), lease, []byte("note")),
				"list dead letters": listErr,
			} {
				assert.ErrorContains(t, err, "redisstore: "+verb)
				if errors.Is(err, handoff.ErrLeaseLost) {
					t.Errorf("%s: %v wraps ErrLeaseLost", verb, err)
				}
			}
			refusesToRun(t, store)
		})
	}
}

func refusesToRun(t *testing.T, store handoff.Store) {
	t.Helper()
	router, err := handoff.NewRouter(handoff.RouterConfig{
		DangerouslyAllowUnauthenticated: true, Store: store, Logger: slog.New(slog.DiscardHandler),
	})
	assert.NoError(t, err)
	handoff.Handle(router, func(context.Context, errand) error {
		t.Error("the handler ran")
		return nil
	})
	req := httptest.NewRequest(http.MethodPost, "/errand", strings.NewReader("{}"))
	req.Header.Set("X-CloudTasks-QueueName", "q")
	req.Header.Set("X-CloudTasks-TaskName", "t")
	rec := httptest.NewRecorder()
	router.ServeHTTP(rec, req)
	assert.Status(t, rec.Code, http.StatusServiceUnavailable)
	assert.NoError(t, router.Shutdown(t.Context()))
}

type errand struct{}

func (errand) Kind() string { return "errand" }
