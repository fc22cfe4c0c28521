package emulator

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/test/bufconn"

	"github.com/brillconsulting/handoff/emulator/internal/dispatch"
	"github.com/brillconsulting/handoff/emulator/internal/engine"
	"github.com/brillconsulting/handoff/emulator/internal/service"
	"github.com/brillconsulting/handoff/emulator/internal/token"
)

// Server is a Cloud Tasks in this process. Its methods may be called
// concurrently.
type Server struct {
	log        *slog.Logger
	engine     *engine.Engine
	service    *service.Service
	tokens     *token.Minter
	dispatcher *dispatch.Dispatcher
	handler    *dispatch.Handler
	network    *http.Transport // nil if Config.Transport is used

	callFaults     faults[CallFault]
	dispatchFaults faults[DispatchFault]

	health   *health.Server
	grpc     *grpc.Server
	memory   *bufconn.Listener
	conn     *grpc.ClientConn // over memory
	web      http.Handler
	http     *http.Server // nil without a port
	ports    *splitter    // nil without a port
	grpcAddr net.Addr     // nil without Config.GRPCAddr
	httpAddr net.Addr
	serving  sync.WaitGroup

	closed sync.Once
}

// New starts a server. It fails with everything that is wrong with cfg at
// once, or when an address cannot be listened on. Call Close when done.
func New(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.complete()
	minter := token.NewMinter(cfg.SigningKey)
	s := &Server{log: cfg.Logger, tokens: minter, health: health.NewServer(), handler: &dispatch.Handler{Log: cfg.Logger, Fallback: cfg.Transport}}
	if cfg.Transport == nil {
		s.network = dispatch.NewTransport(cfg.InsecureTargets)
		s.handler.Fallback = s.network
	}
	if cfg.Handler != nil {
		s.SetHandler(cfg.Handler)
	}
	s.dispatcher = &dispatch.Dispatcher{
		Transport: s.handler,
		Tokens:    minter,
		Log:       cfg.Logger,
		Strict:    cfg.Strict,
		AppEngine: cfg.AppEngine,
		AnyHost:   func() bool { return cfg.Transport != nil || s.handler.IsSet() },
	}
	s.engine = engine.New(engine.Config{
		Dispatch:     s.dispatch,
		TombstoneTTL: cfg.TaskWindow,
		TaskTTL:      cfg.Retention,
		QueueWindow:  cfg.QueueWindow,
		History:      cfg.History,
		Throttle:     cfg.Throttle,
	})
	s.service = service.New(s.engine, service.Options{CreateMissingQueues: cfg.CreateMissingQueues, NoLimits: cfg.NoLimits, Strict: cfg.Strict, DefaultURL: cfg.DefaultURL})
	if err := s.listen(cfg); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// SetHandler directs every dispatch from now on into h, as Config.Handler
// does. It is for handlers that themselves need the server, its keys or its
// address, to be made.
func (s *Server) SetHandler(h http.Handler) { s.handler.Set(h) }

// goodbyeTime is how long HTTP calls in progress have after a drain.
const goodbyeTime = time.Second

// Shutdown stops the server as Close does, but lets the dispatches in flight end
// first, or until ctx is done, of which it returns the error. No dispatch begins
// meanwhile, and probes are told that it does not serve. [Server.Wait], also as GET /emulator/wait, then fails if tasks are left.
func (s *Server) Shutdown(ctx context.Context) error {
	s.engine.Hold()
	s.health.Shutdown()
	err := s.engine.Drain(ctx)
	if s.http != nil {
		s.ports.stopAccepting()
		goodbye, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeTime)
		_ = s.http.Shutdown(goodbye) // Close ends the calls that it leaves
		cancel()
	}
	s.Close()
	return err
}

// Close stops the server: calls in progress fail, dispatches in flight are
// cancelled. It returns when every goroutine of the server has ended, so a
// Handler that ignores the end of its request's context delays it.
func (s *Server) Close() {
	s.closed.Do(func() {
		if s.ports != nil {
			s.ports.stopAccepting()
		}
		if s.grpc != nil {
			s.grpc.Stop()
		}
		if s.http != nil {
			s.http.Close()
		}
		s.engine.Close()
		s.handler.Wait()
		if s.conn != nil {
			s.conn.Close()
		}
		if s.network != nil {
			s.network.CloseIdleConnections()
		}
		if s.ports != nil {
			s.ports.close()
		}
		s.serving.Wait()
	})
}
