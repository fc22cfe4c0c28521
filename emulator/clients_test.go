package emulator_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/stats"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

// dial makes Google's client of a port.
func dial(t *testing.T, addr string, options ...grpc.DialOption) *cloudtasks.Client {
	t.Helper()
	opts := []option.ClientOption{option.WithEndpoint(addr), option.WithoutAuthentication(), option.WithTelemetryDisabled()}
	for _, o := range append(options, grpc.WithTransportCredentials(insecure.NewCredentials())) {
		opts = append(opts, option.WithGRPCDialOption(o))
	}
	client, err := cloudtasks.NewClient(t.Context(), opts...)
	assert.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// TestEachPortServesBoth: each port serves gRPC and HTTP, concurrently and in any order.
func TestEachPortServesBoth(t *testing.T) {
	t.Parallel()
	srv := emulator.RunT(t, emulator.Config{GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0", CreateMissingQueues: true})
	for _, addr := range []string{srv.GRPCAddr(), srv.HTTPAddr()} {
		client := dial(t, addr)
		_, err := client.CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: emails, Task: httpTask("http://127.0.0.1:1/", nil)})
		assert.NoError(t, err)
		assert.Status(t, ask(t, http.MethodGet, "http://"+addr+"/v2/"+emails, "").status, http.StatusOK)
	}
	only := emulator.RunT(t, emulator.Config{HTTPAddr: "127.0.0.1:0"})
	_, err := dial(t, only.HTTPAddr()).CreateQueue(t.Context(), &cloudtaskspb.CreateQueueRequest{Parent: location, Queue: &cloudtaskspb.Queue{Name: emails}})
	assert.NoError(t, err)
	assert.Equal(t, only.GRPCAddr(), "")
}

// TestFirstBytes: a request is served if it comes in pieces, is shorter than the
// preface of HTTP/2 or begins like it. Silent connections delay neither others nor
// Close.
func TestFirstBytes(t *testing.T) {
	t.Parallel()
	srv := emulator.RunT(t, emulator.Config{GRPCAddr: "127.0.0.1:0"})
	connect := func() net.Conn {
		conn, err := net.Dial("tcp", srv.GRPCAddr())
		assert.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	for range 20 {
		connect() // silent
	}
	for _, pieces := range [][]string{
		{"GET /healthz HTTP/1.0\r\n\r\n"},
		{"G", "ET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"},
		{"P", "OST", " /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"},
		{"PRI * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"},
		{"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"}, // TLS
		{"\r\n\r\n"},
	} {
		conn := connect()
		for _, piece := range pieces {
			_, err := io.WriteString(conn, piece)
			assert.NoError(t, err)
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		assert.NoError(t, err)
		assert.Equal(t, strings.HasPrefix(line, "HTTP/1."), true)
	}
	closed := connect()
	_, err := io.WriteString(closed, "PRI * HTT")
	assert.NoError(t, err)
	_ = closed.Close()
	srv.Close()
}

func TestHealth(t *testing.T) {
	t.Parallel()
	srv := emulator.RunT(t, emulator.Config{HTTPAddr: "127.0.0.1:0"})
	resp, err := healthpb.NewHealthClient(srv.Conn()).Check(t.Context(), new(healthpb.HealthCheckRequest))
	assert.NoError(t, err)
	assert.Equal(t, resp.GetStatus(), healthpb.HealthCheckResponse_SERVING)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+srv.HTTPAddr()+"/healthz", http.NoBody)
		assert.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		assert.NoError(t, err)
		assert.NoError(t, resp.Body.Close())
		assert.Status(t, resp.StatusCode, http.StatusOK)
	}
}

// compressed counts compressed messages from the server.
type compressed struct{ n atomic.Int32 }

func (*compressed) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*compressed) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*compressed) HandleConn(context.Context, stats.ConnStats)                       {}
func (c *compressed) HandleRPC(_ context.Context, s stats.RPCStats) {
	if h, ok := s.(*stats.InHeader); ok && h.Compression == gzip.Name {
		c.n.Add(1)
	}
}

func TestGzip(t *testing.T) {
	t.Parallel()
	srv := emulator.RunT(t, emulator.Config{GRPCAddr: "127.0.0.1:0", CreateMissingQueues: true})
	var seen compressed
	client := dial(t, srv.GRPCAddr(), grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name)), grpc.WithStatsHandler(&seen))
	task := httpTask("http://127.0.0.1:1/", func(r *cloudtaskspb.HttpRequest) { r.Body = make([]byte, 100<<10) })
	_, err := client.CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: emails, Task: task})
	assert.NoError(t, err)
	assert.Equal(t, seen.n.Load(), int32(1))
}

// connEnds counts connections that ended.
type connEnds struct {
	compressed

	ends atomic.Int32
}

func (c *connEnds) HandleConn(_ context.Context, s stats.ConnStats) {
	if _, ok := s.(*stats.ConnEnd); ok {
		c.ends.Add(1)
	}
}

// TestKeepalive: Google's servers allow a ping every 30 s on an idle connection.
func TestKeepalive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := emulator.RunT(t)
		var seen connEnds
		client, err := cloudtasks.NewClient(t.Context(), append(srv.ClientOptions(),
			option.WithGRPCDialOption(grpc.WithStatsHandler(&seen)),
			option.WithGRPCDialOption(grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, PermitWithoutStream: true})))...)
		assert.NoError(t, err)
		defer client.Close()
		for range 3 {
			_, err := client.GetQueue(t.Context(), &cloudtaskspb.GetQueueRequest{Name: emails})
			assert.ErrorContains(t, err, "Queue does not exist.")
			time.Sleep(20 * time.Minute) // the client leaves an idle connection after 30
		}
		assert.Equal(t, seen.ends.Load(), int32(0))
	})
}

// TestMethodOverride: only a POST is overridden.
func TestMethodOverride(t *testing.T) {
	t.Parallel()
	srv := emulator.RunT(t, emulator.Config{HTTPAddr: "127.0.0.1:0"})
	do := func(method, override, body string) int {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+srv.HTTPAddr()+"/v2/"+emails, strings.NewReader(body))
		assert.NoError(t, err)
		req.Header.Set("X-HTTP-Method-Override", override)
		resp, err := http.DefaultClient.Do(req)
		assert.NoError(t, err)
		assert.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	assert.Status(t, do(http.MethodPost, "patch", `{"rateLimits":{"maxDispatchesPerSecond":5}}`), http.StatusOK)
	assert.Equal(t, srv.Queues()[0].GetRateLimits().GetMaxDispatchesPerSecond(), 5.0)
	assert.Status(t, do(http.MethodPost, "", "{}"), http.StatusNotFound)
	assert.Status(t, do(http.MethodPost, "BREW", "{}"), http.StatusNotFound)
	assert.Status(t, do(http.MethodGet, "DELETE", ""), http.StatusOK)
	assert.Equal(t, len(srv.Queues()), 1)
	assert.Status(t, do(http.MethodPost, "DELETE", ""), http.StatusOK)
	assert.Equal(t, len(srv.Queues()), 0)
}

// TestCertificates: the certificates verify the tokens of every key, as Google's
// libraries for Node and Python do.
func TestCertificates(t *testing.T) {
	t.Parallel()
	srv := emulator.RunT(t, emulator.Config{HTTPAddr: "127.0.0.1:0"})
	var tokens []string
	for range 2 {
		token, err := srv.Token(account, "aud")
		assert.NoError(t, err)
		tokens = append(tokens, token)
		assert.NoError(t, srv.RotateKey())
	}
	resp, err := http.Get("http://" + srv.HTTPAddr() + "/oauth2/v1/certs")
	assert.NoError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, resp.Header.Get("Cache-Control"), "public, max-age=10")
	var certs map[string]string
	assert.NoError(t, json.NewDecoder(resp.Body).Decode(&certs))
	assert.Equal(t, len(certs), 3)
	for _, token := range tokens {
		parts := strings.Split(token, ".")
		var header struct{ KID string }
		decode := func(part string) []byte {
			b, err := base64.RawURLEncoding.DecodeString(part)
			assert.NoError(t, err)
			return b
		}
		assert.NoError(t, json.Unmarshal(decode(parts[0]), &header))
		block, _ := pem.Decode([]byte(certs[header.KID]))
		cert, err := x509.ParseCertificate(block.Bytes)
		assert.NoError(t, err)
		assert.NoError(t, cert.CheckSignature(x509.SHA256WithRSA, []byte(parts[0]+"."+parts[1]), decode(parts[2])))
	}
}

// TestShutdown: dispatches in flight end, no others begin, and Wait fails since
// tasks are left.
func TestShutdown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun, release := make(chan struct{}, 2), make(chan struct{})
		srv := emulator.RunT(t, emulator.Config{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			begun <- struct{}{}
			<-release
		})})
		s := &setup{T: t, srv: srv, client: googleClient(t, srv)}
		s.createQueue(&cloudtaskspb.Queue{Name: emails, RateLimits: &cloudtaskspb.RateLimits{MaxConcurrentDispatches: 1}})
		s.create()
		second := s.create()
		<-begun
		go func() {
			code, body := s.request(t.Context(), http.MethodGet, "/emulator/wait?timeout=30s", "")
			assert.Status(t, code, http.StatusServiceUnavailable)
			assert.Equal(t, strings.Contains(body, `"settled":false,"left":1`), true)
		}()
		stopped := make(chan error, 1)
		go func() { stopped <- srv.Shutdown(t.Context()) }()
		synctest.Wait() // both wait
		assert.Equal(t, len(stopped), 0)
		code, _ := s.request(t.Context(), http.MethodGet, "/healthz", "")
		assert.Status(t, code, http.StatusServiceUnavailable)
		_, err := s.client.RunTask(t.Context(), &cloudtaskspb.RunTaskRequest{Name: second.GetName()})
		assert.ErrorContains(t, err, "closed")
		close(release)
		assert.NoError(t, <-stopped)
		synctest.Wait()
		assert.Equal(t, len(begun), 0)
		assert.ErrorContains(t, srv.Wait(t.Context()), "closed") // at once, not for ever
	})
	synctest.Test(t, func(t *testing.T) { // a handler that does not end by itself
		s := begin(t, emulator.Config{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })})
		s.create()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		assert.Equal(t, errors.Is(s.srv.Shutdown(ctx), context.DeadlineExceeded), true)
	})
}
