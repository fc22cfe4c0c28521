package rest_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/genproto/googleapis/cloud/location"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/brillconsulting/handoff/emulator/internal/rest"
	"github.com/brillconsulting/handoff/internal/assert"
)

const queueName = "projects/p/locations/l/queues/q"

// call is one call that reached the services.
type call struct {
	method  string // without the service
	request proto.Message
}

// services replace the emulator's services: they record calls and return what
// the test chooses, because these tests are about the translation.
type services struct {
	cloudtaskspb.UnimplementedCloudTasksServer
	location.UnimplementedLocationsServer
	longrunningpb.UnimplementedOperationsServer

	mu     sync.Mutex
	calls  []call
	header metadata.MD

	answer func(method string) (proto.Message, error)
}

// intercept is the interceptor that records the calls.
func (s *services) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	method := info.FullMethod[strings.LastIndexByte(info.FullMethod, '/')+1:]
	s.mu.Lock()
	s.calls = append(s.calls, call{method: method, request: proto.Clone(req.(proto.Message))})
	s.header, _ = metadata.FromIncomingContext(ctx)
	s.mu.Unlock()
	if s.answer == nil {
		return handler(ctx, req)
	}
	return s.answer(method)
}

// last returns the only call.
func (s *services) last(t *testing.T) call {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.calls) != 1 {
		t.Fatalf("%d calls reached the services, want 1: %v", len(s.calls), s.calls)
	}
	return s.calls[0]
}

// mixinRules are rules as a service configuration has them. No method of Cloud
// Tasks has a nested or repeated query field, so v3 stands in for one.
var mixinRules = []*annotations.HttpRule{
	get("google.cloud.location.Locations.ListLocations", "/v2/{name=projects/*}/locations"),
	get("google.cloud.location.Locations.GetLocation", "/v2/{name=projects/*/locations/*}"),
	get("google.longrunning.Operations.GetOperation", "/v2/{name=projects/*/locations/*/operations/*}"),
	get("google.cloud.tasks.v2.CloudTasks.GetIamPolicy", "/v3/{resource=projects/*/locations/*/queues/*}:getIamPolicy"),
	get("google.cloud.tasks.v2.CloudTasks.TestIamPermissions", "/v3/{resource=projects/*/locations/*/queues/*}:testIamPermissions"),
}

func get(selector, path string) *annotations.HttpRule {
	return &annotations.HttpRule{Selector: selector, Pattern: &annotations.HttpRule_Get{Get: path}}
}

// serve returns a transcoder over s; edit may change its configuration.
func serve(t testing.TB, s *services, edit func(*rest.Config)) http.Handler {
	t.Helper()
	cfg := rest.Config{
		Services: []rest.Service{
			{Desc: &cloudtaskspb.CloudTasks_ServiceDesc, Impl: s},
			{Desc: &rest.LocationsServiceDesc, Impl: s},
			{Desc: &longrunningpb.Operations_ServiceDesc, Impl: s},
		},
		Rules:       mixinRules,
		Interceptor: s.intercept,
		Logger:      slog.New(slog.DiscardHandler),
	}
	if edit != nil {
		edit(&cfg)
	}
	h, err := rest.New(cfg)
	assert.NoError(t, err)
	return h
}

func do(h http.Handler, method, target, body string) *httptest.ResponseRecorder {
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(method, target, reader))
	return rec
}

func equal(t *testing.T, got, want proto.Message) {
	t.Helper()
	if !proto.Equal(got, want) {
		t.Fatalf("got:  %v\nwant: %v", got, want)
	}
}

// refuse returns NOT_FOUND for every call.
func refuse(string) (proto.Message, error) {
	return nil, status.Error(codes.NotFound, "Queue does not exist.")
}
