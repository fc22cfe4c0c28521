package emulator

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	betapb "cloud.google.com/go/cloudtasks/apiv2beta3/cloudtaskspb"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/api/option"
	"google.golang.org/genproto/googleapis/cloud/location"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress their calls
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"
)

const (
	// maxMessage lets a batch of a hundred of the largest tasks in.
	maxMessage   = 128 << 20
	memoryBuffer = 64 << 10
	// memoryTarget is neither resolved nor dialled: the dialer ignores it.
	memoryTarget = "passthrough:///emulator"
)

// pingTime is how often clients may ping a connection, idle or not. Google's
// servers allow a ping every 30 s, which may arrive a little sooner.
const pingTime = 20 * time.Second

// listen starts the servers: of gRPC in memory, and of gRPC and HTTP on the ports
// that cfg asks for.
func (s *Server) listen(cfg Config) error {
	s.grpc = grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.ChainUnaryInterceptor(s.intercept, s.checkRouting(cfg.Strict)),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingTime, PermitWithoutStream: true}),
	)
	cloudtaskspb.RegisterCloudTasksServer(s.grpc, s.service)
	betapb.RegisterCloudTasksServer(s.grpc, s.service.Beta())
	longrunningpb.RegisterOperationsServer(s.grpc, s.service)
	location.RegisterLocationsServer(s.grpc, s.service)
	healthpb.RegisterHealthServer(s.grpc, s.health)

	s.memory = bufconn.Listen(memoryBuffer)
	s.serving.Go(func() { _ = s.grpc.Serve(s.memory) })
	conn, err := grpc.NewClient(memoryTarget, s.dialOptions()...)
	if err != nil {
		return fmt.Errorf("emulator: %w", err)
	}
	s.conn = conn
	if s.web, err = s.newHTTPHandler(cfg); err != nil {
		return err
	}
	if cfg.GRPCAddr != "" {
		if s.grpcAddr, err = s.open("GRPCAddr", cfg.GRPCAddr, cfg.Logger); err != nil {
			return err
		}
	}
	if cfg.HTTPAddr != "" {
		s.httpAddr, err = s.open("HTTPAddr", cfg.HTTPAddr, cfg.Logger)
	}
	return err
}

// open serves both protocols on an address.
func (s *Server) open(field, address string, log *slog.Logger) (net.Addr, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("emulator: Config.%s: %w", field, err)
	}
	if s.ports == nil {
		s.ports = newSplitter()
		s.http = &http.Server{
			Handler:           s.web,
			ReadHeaderTimeout: time.Minute,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelError),
		}
		s.serving.Go(func() { _ = s.grpc.Serve(s.ports.grpc) })
		s.serving.Go(func() { _ = s.http.Serve(s.ports.http) })
	}
	s.ports.serve(l)
	return l.Addr(), nil
}

func (s *Server) dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return s.memory.DialContext(ctx)
		}),
	}
}

// ClientOptions are the options with which Google's own client reaches this
// server in memory:
//
//	client, err := cloudtasks.NewClient(ctx, srv.ClientOptions()...)
//
// Close the client before the server.
func (s *Server) ClientOptions() []option.ClientOption {
	opts := []option.ClientOption{option.WithEndpoint(memoryTarget), option.WithoutAuthentication()}
	for _, o := range s.dialOptions() {
		opts = append(opts, option.WithGRPCDialOption(o))
	}
	return opts
}

// Conn is a gRPC connection to this server in memory, for clients that are
// made from one. It is closed with the server.
func (s *Server) Conn() *grpc.ClientConn { return s.conn }

// GRPCAddr is the address of Config.GRPCAddr with its port, "" if there is none.
func (s *Server) GRPCAddr() string { return addr(s.grpcAddr) }

// HTTPAddr is the address of Config.HTTPAddr with its port, "" if there is none.
func (s *Server) HTTPAddr() string { return addr(s.httpAddr) }

func addr(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}
