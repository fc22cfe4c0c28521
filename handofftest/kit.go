package handofftest

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/memstore"
)

// Config changes what [New] makes. The zero Config changes nothing.
type Config struct {
	_ [0]func()

	// Client changes the client's configuration before it is made: its
	// Policy, for example.
	Client func(*handoff.ClientConfig)

	// Router builds the router under test from a configuration in which
	// Verifier, Store, DeadLetters, Client and Logger are set, and may change
	// the rest of it. Defaults to [handoff.NewRouter].
	Router func(handoff.RouterConfig) (*handoff.Router, error)

	// Store is the fence. Defaults to [memstore.New].
	Store handoff.Store

	// DeadLetters keeps what died. Defaults to [memstore.NewDeadLetters].
	DeadLetters handoff.DeadLetterStore
}

// Kit is the whole way of a task in one process: the real client, Cloud Tasks,
// the real router, and its stores. Nothing is dispatched by itself: a test
// enqueues, and then lets [Kit.Step] or [Kit.Drain] make the dispatches, one at
// a time in the order in which they fall due. So handlers and test share
// variables without locks, and every run of a test is the same.
//
// Time is real, or that of the testing/synctest bubble that the test runs in,
// where a day passes in milliseconds.
//
// Step and Drain belong to the goroutine of the test. The fault switches may
// be used from anywhere, a handler for example. Whatever they have no switch
// for, Emulator has: failing API calls, slow dispatches, statuses.
type Kit struct {
	Client      *handoff.Client
	Router      *handoff.Router
	DeadLetters handoff.DeadLetterStore
	Emulator    *emulator.Server

	t        testing.TB
	queues   *queues
	store    *store
	verifier *verifier
	due      []due // what fell due and was not dispatched yet

	mu   sync.Mutex
	seen []*sight // of the dispatch that is made
}

// New returns a Kit that ends with the test: the router is shut down, and no
// goroutine stays. Queues come into being with their first task. Register the
// handlers on its Router, then enqueue with its Client:
//
//	kit := handofftest.New(t)
//	handoff.Handle(kit.Router, sendWelcome)
//	kit.Client.Enqueue(ctx, WelcomeEmail{UserID: "42"})
//	kit.Drain()
func New(t testing.TB, config ...Config) *Kit {
	t.Helper()
	var c Config
	switch len(config) {
	case 0:
	case 1:
		c = config[0]
	default:
		t.Fatalf("handofftest: New was given %d configs, it takes one", len(config))
	}
	if c.Router == nil {
		c.Router = handoff.NewRouter
	}
	if c.Store == nil {
		c.Store = memstore.New()
	}
	if c.DeadLetters == nil {
		c.DeadLetters = memstore.NewDeadLetters()
	}
	k := &Kit{t: t, store: &store{Store: c.Store}, DeadLetters: c.DeadLetters}
	k.queues = newQueues(t, emulator.Config{})
	k.Emulator = k.queues.server
	k.verifier = newVerifier(t, k.Emulator)
	k.Client = k.queues.client(t, c.Client)
	router, err := c.Router(handoff.RouterConfig{
		Verifier:    k.verifier,
		Store:       k.store,
		DeadLetters: k.DeadLetters,
		Client:      k.Client,
		Logger:      logger(t),
	})
	if err != nil {
		t.Fatalf("handofftest: %v", err)
	}
	k.Router = router
	t.Cleanup(k.shutdown)
	k.Emulator.SetHandler(k.watch(watched(router)))
	return k
}

// shutdownTime is what running handlers are given when the test is over. Only
// those that their dispatch did not wait for can be running.
const shutdownTime = 10 * time.Second

func (k *Kit) shutdown() {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if err := k.Router.Shutdown(ctx); err != nil {
		k.t.Errorf("handofftest: %v", err)
	}
}

// watch keeps a sight of every delivery.
func (k *Kit) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := &sight{settled: NotClaimed}
		k.mu.Lock()
		k.seen = append(k.seen, seen)
		k.mu.Unlock()
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), sightKey{}, seen)))
	})
}
