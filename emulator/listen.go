package emulator

import (
	"context"
	"fmt"
	"net"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	betapb "cloud.google.com/go/cloudtasks/apiv2beta3/cloudtaskspb"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/api/option"
	"google.golang.org/genproto/googleapis/cloud/location"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

const (
	// maxMessage lets a batch of a hundred of the largest tasks in.
	maxMessage   = 128 << 20
	memoryBuffer = 64 << 10
	// memoryTarget is neither resolved nor dialled: the dialer ignores it.
	memoryTarget = "passthrough:///emulator"
)

func (s *Server) listen(cfg Config) error {
	s.grpc = grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.ChainUnaryInterceptor(s.checkRouting(cfg.Strict), s.intercept),
	)
	cloudtaskspb.RegisterCloudTasksServer(s.grpc, s.service)
	betapb.RegisterCloudTasksServer(s.grpc, s.service.Beta())
	longrunningpb.RegisterOperationsServer(s.grpc, s.service)
	location.RegisterLocationsServer(s.grpc, s.service)

	s.memory = bufconn.Listen(memoryBuffer)
	s.serving.Go(func() { _ = s.grpc.Serve(s.memory) })
	conn, err := grpc.NewClient(memoryTarget, s.dialOptions()...)
	if err != nil {
		return fmt.Errorf("emulator: %w", err)
	}
	s.conn = conn

	if cfg.GRPCAddr != "" {
		l, err := net.Listen("tcp", cfg.GRPCAddr)
		if err != nil {
			return fmt.Errorf("emulator: Config.GRPCAddr: %w", err)
		}
		s.grpcAddr = l.Addr()
		s.serving.Go(func() { _ = s.grpc.Serve(l) })
	}
	if s.web, err = s.newHTTPHandler(cfg); err != nil {
		return err
	}
	if cfg.HTTPAddr != "" {
		return s.listenHTTP(cfg.HTTPAddr, cfg.Logger)
	}
	return nil
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

// GRPCAddr is the address that the gRPC API listens on, "" if it was not
// asked to.
func (s *Server) GRPCAddr() string { return addr(s.grpcAddr) }

// HTTPAddr is the address that the REST API and the keys are served on, ""
// if they were not asked to be.
func (s *Server) HTTPAddr() string { return addr(s.httpAddr) }

func addr(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}
