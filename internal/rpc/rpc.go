// Package rpc holds what every caller of the Cloud Tasks API must observe,
// whichever client it uses: where an emulator is, and how long a call may take.
package rpc

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// EmulatorVariable names the environment variable that redirects clients
// which were given no options.
const EmulatorVariable = "CLOUD_TASKS_EMULATOR_HOST"

// Options returns the options to make a client with: those given, or without
// any those of the emulator that the environment names. Google's own client
// knows no such variable (docs/cloud-tasks.md#1.2).
func Options(given []option.ClientOption) ([]option.ClientOption, error) {
	host := os.Getenv(EmulatorVariable)
	if len(given) > 0 || host == "" {
		return given, nil
	}
	if strings.Contains(host, "/") {
		return nil, fmt.Errorf("%s is %q; it must be host:port without a scheme", EmulatorVariable, host)
	}
	if _, port, err := net.SplitHostPort(host); err != nil || port == "" {
		return nil, fmt.Errorf("%s is %q; it must be host:port, such as localhost:8123", EmulatorVariable, host)
	}
	return []option.ClientOption{
		option.WithEndpoint(host),
		option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}, nil
}

// Timeout is the deadline of one call. The service refuses deadlines over
// 30 s (docs/cloud-tasks.md#1.2), and a context's own replaces the client's default.
const Timeout = 20 * time.Second

// WithTimeout bounds one call. It costs nothing where the caller's deadline
// is nearer.
func WithTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= Timeout {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, Timeout)
}

// RequestID is a new ID of a batch call, by which the service knows it again: a
// random UUID (docs/cloud-tasks.md#3.5; RFC 9562 §5.4).
func RequestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
