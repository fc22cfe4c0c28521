package admin_test

import (
	"context"
	"net"
	"path"
	"strings"
	"sync"
	"testing"

	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

const (
	project  = "my-project"
	location = "europe-west1"
	parent   = "projects/" + project + "/locations/" + location
)

// tap intercepts the client's calls. It counts them, and fails or changes some.
type tap struct {
	mu    sync.Mutex
	calls map[string]int // by method; those of v2beta3 begin with "beta."

	// before may return an error, and then the call is not sent. nth counts from 1.
	before func(method string, nth int, req any) error
	// after may change a response, or return an error in its place.
	after func(method string, nth int, reply any) error
}

func (t *tap) intercept(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	name := path.Base(method)
	if strings.Contains(method, "v2beta3") {
		name = "beta." + name
	}
	t.mu.Lock()
	t.calls[name]++
	nth := t.calls[name]
	t.mu.Unlock()
	if t.before != nil {
		if err := t.before(name, nth, req); err != nil {
			return err
		}
	}
	if err := invoke(ctx, method, req, reply, conn, opts...); err != nil {
		return err
	}
	if t.after != nil {
		return t.after(name, nth, reply)
	}
	return nil
}

// made returns the number of calls by method, and resets them.
func (t *tap) made() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	made := t.calls
	t.calls = make(map[string]int)
	return made
}

// newAdmin returns an Admin with these options, and the tap on its calls.
func newAdmin(t testing.TB, options []option.ClientOption) (*admin.Admin, *tap) {
	t.Helper()
	rpcs := &tap{calls: make(map[string]int)}
	options = append(options, option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(rpcs.intercept)))
	a, err := admin.New(t.Context(), admin.Config{Project: project, Location: location, Options: options})
	assert.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, a.Close()) })
	return a, rpcs
}

// emulated returns an Admin of a new emulator.
func emulated(t testing.TB, config ...emulator.Config) (*admin.Admin, *emulator.Server, *tap) {
	t.Helper()
	srv := emulator.RunT(t, config...)
	a, rpcs := newAdmin(t, srv.ClientOptions())
	return a, srv, rpcs
}

// scripted returns an Admin of the test's own server.
func scripted(t testing.TB, register func(*grpc.Server)) (*admin.Admin, *tap) {
	t.Helper()
	memory := bufconn.Listen(64 << 10)
	srv := grpc.NewServer()
	register(srv)
	var serving sync.WaitGroup
	serving.Go(func() { _ = srv.Serve(memory) })
	t.Cleanup(func() { srv.Stop(); serving.Wait() })
	return newAdmin(t, []option.ClientOption{
		option.WithEndpoint("passthrough:///scripted"),
		option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		option.WithGRPCDialOption(grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return memory.DialContext(ctx) })),
	})
}
