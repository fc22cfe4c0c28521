// Package rpc holds what all clients of the Cloud Tasks API have in common: the
// address of an emulator, and the deadline of a call.
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

// EmulatorVariable names the environment variable with the host:port of an emulator.
// It applies to clients that are made without options.
const EmulatorVariable = "CLOUD_TASKS_EMULATOR_HOST"

// Options returns given if it is not empty, or else the options for the emulator that
// the environment names, if any. Google's own client has no such variable (docs/cloud-tasks.md#1.2).
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

// Timeout is the max duration of one call. The service refuses deadlines over 30 s
// (docs/cloud-tasks.md#1.2), and the deadline of a context replaces the client's
// default.
const Timeout = 20 * time.Second

// WithTimeout returns a context for one call, which ends after [Timeout]. If the
// caller's deadline is earlier, it returns ctx.
func WithTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= Timeout {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, Timeout)
}

// RequestID returns a new ID for a batch call, by which the service recognises a
// repeated call. It is a random UUID (docs/cloud-tasks.md#3.5; RFC 9562 §5.4).
func RequestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
