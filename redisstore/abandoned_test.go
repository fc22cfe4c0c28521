package redisstore_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/redisstore"
)

// countingServer counts the claims of each key that arrive. It signals on arrived
// when "first" comes, and responds to it once respond is closed. It never responds
// to a batch that holds "abandoned": it breaks the connection once the owner of
// that claim has given up.
type countingServer struct {
	net.Listener

	arrived, respond, gone chan struct{}

	mu     sync.Mutex
	claims map[string]int
}

func (s *countingServer) count(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claims[key]
}

func (s *countingServer) serve(conn net.Conn) {
	in := bufio.NewReader(conn)
	for {
		command, err := readCommand(in)
		if err != nil {
			return
		}
		reply := "+OK\r\n"
		if strings.EqualFold(command[0], "HELLO") {
			reply = "-ERR unknown command\r\n"
		}
		if strings.EqualFold(command[0], "EVALSHA") {
			key := strings.TrimPrefix(command[3], "handoff:")
			s.mu.Lock()
			s.claims[key]++
			s.mu.Unlock()
			switch key {
			case "first":
				s.arrived <- struct{}{}
				<-s.respond
			case "abandoned":
				select {
				case s.arrived <- struct{}{}:
				case <-s.gone: // the batch was sent again
				}
				<-s.gone
				return // the rest of the batch gets no response either
			}
			reply = ":1\r\n"
		}
		if _, err := io.WriteString(conn, reply); err != nil {
			return
		}
	}
}

func newCountingServer(t *testing.T) *countingServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NoError(t, err)
	s := &countingServer{Listener: l, claims: map[string]int{}, arrived: make(chan struct{}), respond: make(chan struct{}), gone: make(chan struct{})}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				s.serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return s
}

// TestAnAbandonedClaimIsNotSentAgain: go-redis repeats commands that got no
// response. A claim that is repeated after its owner has given up would hold the
// work for a whole lease. Other claims of the same batch must be repeated.
func TestAnAbandonedClaimIsNotSentAgain(t *testing.T) {
	t.Parallel()
	server := newCountingServer(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr().String(), Protocol: 2, DisableIdentity: true, MaxRetries: 3, ReadTimeout: time.Minute})
	t.Cleanup(func() { _ = rdb.Close() })
	store := redisstore.New(rdb, nil)
	var claims sync.WaitGroup
	claim := func(ctx context.Context, key string, want error) {
		claims.Go(func() {
			_, err := store.Claim(ctx, leaseOf(key, "a"))
			assert.ErrorIs(t, err, want)
		})
	}
	claim(t.Context(), "first", nil)
	<-server.arrived // later round trips wait for this one
	ctx, abandon := context.WithCancel(t.Context())
	defer abandon()
	claim(ctx, "abandoned", context.Canceled)
	claim(t.Context(), "kept", nil)
	redisstore.AwaitWaiting(store, 2)
	close(server.respond)

	<-server.arrived // both have been sent
	abandon()
	close(server.gone)
	claims.Wait()
	assert.Equal(t, server.count("abandoned"), 1)
	if n := server.count("kept"); n < 1 {
		t.Errorf("the claim whose owner still waits arrived %d times, want 1 or more", n)
	}
}
