package emulator_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	betapb "cloud.google.com/go/cloudtasks/apiv2beta3/cloudtaskspb"
	"cloud.google.com/go/iam/apiv1/iampb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

var soak = flag.Duration("soak", 5*time.Second, "how long TestSoak sends random requests")

// TestSoak sends random requests, sensible ones and others, from clients of
// both transports at once, while a worker responds as it likes, dashboards
// watch and the emulator is reset. Nothing may panic, respond with a 5xx other
// than 501, or be left running. make soak does so for ten minutes.
func TestSoak(t *testing.T) {
	assert.NoLeaks(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	worker := httptest.NewServer(http.HandlerFunc(moody))
	defer worker.Close()
	srv := emulator.RunT(t, emulator.Config{
		GRPCAddr:    "127.0.0.1:0",
		HTTPAddr:    "127.0.0.1:0",
		AppEngine:   map[string]string{"default": worker.URL},
		TaskWindow:  -1, // names are free again at once
		QueueWindow: -1,
		Logger:      slog.New(noErrors{t}),
	})
	ctx, cancel := context.WithTimeout(t.Context(), *soak)
	defer cancel()
	var sent, accepted atomic.Int64
	var clients sync.WaitGroup
	for i := range uint64(3) {
		clients.Go(func() {
			c := newGRPCSoaker(t, srv, worker.URL, rand.New(rand.NewPCG(seed, i)))
			defer c.conn.Close()
			for ctx.Err() == nil {
				sent.Add(1)
				if c.call(ctx, t) {
					accepted.Add(1)
				}
			}
		})
		clients.Go(func() {
			c := newRESTSoaker(srv, worker.URL, rand.New(rand.NewPCG(seed, 100+i)))
			defer c.http.CloseIdleConnections()
			for ctx.Err() == nil {
				sent.Add(1)
				if c.call(ctx, t) {
					accepted.Add(1)
				}
			}
		})
	}
	board := watched(t, srv)
	other := &http.Client{Transport: &http.Transport{}}
	defer other.CloseIdleConnections()
	for i := range uint64(3) {
		c := &watcher{generator{rng: rand.New(rand.NewPCG(seed, 200+i))}, board, other}
		clients.Go(func() { c.watch(ctx, t) })
	}
	clients.Go(func() { disturb(ctx, t, srv, other, rand.New(rand.NewPCG(seed, 300))) })
	clients.Wait()
	t.Logf("%d requests, %d accepted", sent.Load(), accepted.Load())
	if accepted.Load() == 0 {
		t.Error("no request was accepted: this shows nothing")
	}
}

// noErrors is a log that fails the test at an error. The server logs panics as errors.
type noErrors struct{ t *testing.T }

func (noErrors) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }
func (h noErrors) WithAttrs([]slog.Attr) slog.Handler             { return h }
func (h noErrors) WithGroup(string) slog.Handler                  { return h }
func (h noErrors) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		h.t.Errorf("logged %q: %v", r.Message, a)
		return true
	})
	return nil
}

// moody is a worker that succeeds, fails, dawdles and hangs up.
func moody(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	switch rand.IntN(6) {
	case 0, 1:
	case 2:
		w.WriteHeader(400 + rand.IntN(200))
	case 3:
		w.Header().Set("Location", "/")
		w.WriteHeader(http.StatusFound)
	case 4:
		select {
		case <-r.Context().Done():
		case <-time.After(time.Duration(rand.IntN(50)) * time.Millisecond):
		}
	case 5:
		panic(http.ErrAbortHandler)
	}
}

// methods are the RPCs of Cloud Tasks, in both versions.
func methods() (all []protoreflect.MethodDescriptor) {
	for _, file := range []protoreflect.FileDescriptor{
		cloudtaskspb.File_google_cloud_tasks_v2_cloudtasks_proto, betapb.File_google_cloud_tasks_v2beta3_cloudtasks_proto,
	} {
		version := file.Services().ByName("CloudTasks").Methods()
		for i := range version.Len() {
			all = append(all, version.Get(i))
		}
	}
	return all
}

type grpcSoaker struct {
	generator
	conn *grpc.ClientConn
}

func newGRPCSoaker(t *testing.T, srv *emulator.Server, worker string, rng *rand.Rand) *grpcSoaker {
	conn, err := grpc.NewClient(srv.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Error(err)
	}
	return &grpcSoaker{generator{rng: rng, worker: worker}, conn}
}

// call makes a random call and reports whether it was accepted.
func (c *grpcSoaker) call(ctx context.Context, t *testing.T) bool {
	all := methods()
	method := all[c.rng.IntN(len(all))]
	if (method.Name() == "DeleteQueue" || method.Name() == "PurgeQueue") && c.mostly() {
		return false // or few tasks would be dispatched
	}
	request := dynamicpb.NewMessage(method.Input())
	c.begin()
	c.fill(request, 0)
	err := c.conn.Invoke(ctx, fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name()), request, dynamicpb.NewMessage(method.Output()))
	switch status.Code(err) {
	case codes.Unknown, codes.Internal, codes.Unavailable, codes.DataLoss:
		if ctx.Err() == nil && !notUTF8(err) {
			t.Errorf("%s: %v\n%v", method.FullName(), err, request)
		}
	}
	return err == nil
}

// notUTF8 recognises a request that the client itself could not encode.
func notUTF8(err error) bool { return strings.Contains(err.Error(), "invalid UTF-8") }

type restSoaker struct {
	generator
	base string
	http *http.Client
}

func newRESTSoaker(srv *emulator.Server, worker string, rng *rand.Rand) *restSoaker {
	return &restSoaker{generator{rng: rng, worker: worker}, "http://" + srv.HTTPAddr(), &http.Client{Transport: &http.Transport{}}}
}

// restCalls are what a REST client may ask for: a verb, what follows the name,
// and what the body is made of.
var restCalls = []struct {
	verb, suffix string
	body         proto.Message
}{
	{"GET", "", nil},
	{"GET", "/tasks", nil},
	{"GET", "/operations/x", nil},
	{"PATCH", "", &cloudtaskspb.Queue{}},
	{"PATCH", "", &cloudtaskspb.Queue{}},
	{"DELETE", "", nil},
	{"POST", "/tasks", &cloudtaskspb.CreateTaskRequest{}},
	{"POST", "/tasks", &cloudtaskspb.CreateTaskRequest{}},
	{"POST", "/tasks:batchCreate", &cloudtaskspb.BatchCreateTasksRequest{}},
	{"POST", "/tasks:batchDelete", &cloudtaskspb.BatchDeleteTasksRequest{}},
	{"PUT", "/tasks:buffer", &cloudtaskspb.Queue{}},
	{"POST", ":pause", nil},
	{"POST", ":resume", nil},
	{"POST", ":getIamPolicy", nil},
	{"POST", ":setIamPolicy", &iampb.SetIamPolicyRequest{}},
	{"POST", ":explode", nil},
}

// call sends a random request and reports whether it was accepted.
func (c *restSoaker) call(ctx context.Context, t *testing.T) bool {
	c.begin()
	choice := restCalls[c.rng.IntN(len(restCalls))]
	verb, name := choice.verb, c.queue
	if choice.suffix == "" && verb != "PATCH" && c.mostly() {
		name = fmt.Sprintf("%s/tasks/t%d", c.queue, c.rng.IntN(5)) // a task, and not the queue, which would often be deleted
	}
	target := c.base + one(&c.generator, []string{"/v2/", "/v2beta3/"}, "/v1/", "/", "/v2//") + one(&c.generator, []string{name}, "projects/p/locations", "", "a%2Fb") + choice.suffix +
		one(&c.generator, []string{"", "?alt=json", "?$alt=json;enum-encoding=int"}, "?updateMask=rateLimits", "?pageSize=-1", "?pageToken=x", "?responseView=2", "?readMask=stats", "?%zz")
	body := ""
	if choice.body != nil {
		message := proto.Clone(choice.body)
		c.fill(message.ProtoReflect(), 0)
		text, _ := protojson.Marshal(message) // what has no JSON form leaves the body empty
		body = string(text)
		if !c.polite && body != "" && c.rng.IntN(4) == 0 {
			body = body[:c.rng.IntN(len(body))]
		}
	}
	r, err := http.NewRequestWithContext(ctx, verb, target, strings.NewReader(body))
	if err != nil {
		return false // the name was no path
	}
	resp, err := c.http.Do(r)
	if err != nil {
		if ctx.Err() == nil {
			t.Errorf("%s %s: %v", verb, target, err)
		}
		return false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if ctx.Err() == nil && (err != nil || resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented) {
		t.Errorf("%s %s\n%s\n%d %s %v", verb, target, body, resp.StatusCode, text, err)
	}
	return resp.StatusCode == http.StatusOK
}

// TestMissingQueue: a call about a queue that does not exist fails with an ordinary code, if at all.
func TestMissingQueue(t *testing.T) {
	t.Parallel()
	srv := emulator.RunT(t)
	for _, method := range methods() {
		request := dynamicpb.NewMessage(method.Input())
		for _, name := range []protoreflect.Name{"name", "resource", "parent"} {
			if field := method.Input().Fields().ByName(name); field != nil {
				request.Set(field, protoreflect.ValueOfString(emails))
			}
		}
		err := srv.Conn().Invoke(t.Context(), fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name()), request, dynamicpb.NewMessage(method.Output()))
		switch status.Code(err) {
		case codes.OK, codes.NotFound, codes.InvalidArgument, codes.PermissionDenied:
		default:
			t.Errorf("%s: %v", method.FullName(), err)
		}
	}
}
