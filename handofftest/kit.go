package handofftest

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/watch"
	"github.com/brillconsulting/handoff/memstore"
)

// Config configures the Kit that [New] returns. Every field is optional.
type Config struct {
	_ [0]func()

	// Client changes the configuration of the client, such as its Policy. Defaults
	// to no change.
	Client func(*handoff.ClientConfig)

	// Router builds the router under test. Its argument has Verifier, Store,
	// DeadLetters, Client and Logger set; Router may set the other fields. Defaults
	// to [handoff.NewRouter].
	Router func(handoff.RouterConfig) (*handoff.Router, error)

	// Callers are the service accounts that the router accepts beside [Account],
	// such as that of another producer, which [handoff.From] binds to its kinds.
	// [handoff.Request].ServiceAccount and ClientConfig.Targets name the account of
	// a task. Defaults to none.
	Callers []string

	// Audiences are the audiences that the router accepts beside [Audience].
	// Defaults to none.
	Audiences []string

	// Store is the fence. Defaults to [memstore.New].
	Store handoff.Store

	// DeadLetters stores the dead letters. Defaults to [memstore.NewDeadLetters].
	DeadLetters handoff.DeadLetterStore
}

// Kit runs everything in one process: the real client, an emulated Cloud Tasks,
// the real router and its stores. A test enqueues, then calls [Kit.Step] or
// [Kit.Drain], which dispatch tasks one at a time, in the order of their due
// times. Nothing else dispatches a task, so tests are deterministic, and handlers
// and test may share variables without locks.
//
// Time is real, or virtual if the test runs in a testing/synctest bubble, where
// a day passes in milliseconds.
//
// Call Step and Drain in the goroutine of the test. The methods that inject
// faults are safe for concurrent use, for example in a handler. The Emulator
// field can inject more: failing API calls, slow dispatches, statuses.
type Kit struct {
	Client      *handoff.Client
	Router      *handoff.Router
	DeadLetters handoff.DeadLetterStore
	Emulator    *emulator.Server

	t        testing.TB
	mux      *http.ServeMux
	queues   *queues
	store    *store
	verifier *verifier
	due      []due // tasks that are due and not dispatched yet

	mu       sync.Mutex
	seen     []*sight // of the current dispatch
	maxMemos int      // number of memo changes after which an attempt is late; 0 for no limit
}

// New returns a Kit, which is shut down with all its goroutines when the test
// ends. At most one Config may be given. A queue is created with its first task.
// Register handlers on the Kit's Router, then enqueue with its Client:
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
		t.Fatalf("handofftest: New got %d Configs; give it one at most", len(config))
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
	k := &Kit{t: t, mux: http.NewServeMux(), store: &store{Store: c.Store}, DeadLetters: c.DeadLetters}
	k.queues = newQueues(t, emulator.Config{})
	k.Emulator = k.queues.server
	k.verifier = newVerifier(t, k.Emulator, c.Callers, c.Audiences)
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
	k.mux.Handle("/", router)
	k.Emulator.SetHandler(k.watch(watched(k.mux)))
	return k
}

// Mount serves the tasks whose URL matches pattern by handler, such as that of
// [handoff.Router.Raw], instead of by the Router. pattern is one of
// [http.ServeMux], without a method if the handler gets several.
func (k *Kit) Mount(pattern string, handler http.Handler) { k.mux.Handle(pattern, handler) }

// shutdownTime is how long handlers may still run when the test ends. Only
// handlers that ignored their dispatch deadline can be running then.
const shutdownTime = 10 * time.Second

func (k *Kit) shutdown() {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if err := k.Router.Shutdown(ctx); err != nil {
		k.t.Errorf("handofftest: %v", err)
	}
}

// watch adds a sight to the context of every delivery.
func (k *Kit) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := &sight{settled: NotClaimed}
		k.mu.Lock()
		k.seen = append(k.seen, seen)
		maxMemos := k.maxMemos
		k.mu.Unlock()
		ctx := context.WithValue(r.Context(), sightKey{}, seen)
		if maxMemos > 0 {
			ctx = context.WithValue(ctx, watch.Late{}, func() bool { return seen.kept >= maxMemos })
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}
