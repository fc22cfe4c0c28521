package emulator_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	betapb "cloud.google.com/go/cloudtasks/apiv2beta3/cloudtaskspb"
	"cloud.google.com/go/iam/apiv1/iampb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

func httpTask(url string, edit func(*cloudtaskspb.HttpRequest)) *cloudtaskspb.Task {
	r := &cloudtaskspb.HttpRequest{Url: url}
	if edit != nil {
		edit(r)
	}
	return &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: r}}
}

func googleClient(t *testing.T, srv *emulator.Server) *cloudtasks.Client {
	t.Helper()
	client, err := cloudtasks.NewClient(t.Context(), srv.ClientOptions()...)
	assert.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func (s *setup) send(task *cloudtaskspb.Task) (*cloudtaskspb.Task, error) {
	return s.client.CreateTask(s.Context(), &cloudtaskspb.CreateTaskRequest{Parent: emails, Task: task})
}

const (
	account   = "caller@p.iam.gserviceaccount.com"
	overHTTP  = "HttpRequest.url must start with 'https://' for request with HttpRequest.authorization_header"
	urlErrors = "HttpRequest.url is not a valid URL: "
)

func withOIDC(r *cloudtaskspb.HttpRequest) {
	r.AuthorizationHeader = &cloudtaskspb.HttpRequest_OidcToken{OidcToken: &cloudtaskspb.OidcToken{ServiceAccountEmail: account}}
}

func withOAuth(r *cloudtaskspb.HttpRequest) {
	r.AuthorizationHeader = &cloudtaskspb.HttpRequest_OauthToken{OauthToken: &cloudtaskspb.OAuthToken{ServiceAccountEmail: account}}
}

// TestTokensNeedHTTPS: as at the service, except to hosts of development.
func TestTokensNeedHTTPS(t *testing.T) {
	t.Parallel()
	for _, strict := range []bool{false, true} {
		s := begin(t, emulator.Config{Strict: strict})
		for _, tt := range []struct {
			url         string
			development bool
			edit        func(*cloudtaskspb.HttpRequest)
			want        string
		}{
			{"https://worker.example.com/x", false, withOIDC, ""},
			{"http://worker.example.com/x", false, nil, ""},
			{"http://worker.example.com/x", false, withOIDC, overHTTP},
			{"http://worker.example.com/x", false, withOAuth, overHTTP},
			{"http://8.8.8.8/x", false, withOIDC, overHTTP},
			{"http://2130706433/x", false, withOIDC, overHTTP},
			{"http://localhost.example.com/x", false, withOIDC, overHTTP},
			{"http://localhost@worker.example.com/x", false, withOIDC, overHTTP},
			{"http://127.0.0.1:8080/x", true, withOIDC, overHTTP},
			{"http://[::1]:8080/x", true, withOAuth, overHTTP},
			{"http://worker:8080/x", true, withOIDC, overHTTP},
			{"http://host.docker.internal/x", true, withOIDC, overHTTP},
		} {
			want := tt.want
			if tt.development && !strict {
				want = ""
			}
			_, err := s.send(httpTask(tt.url, tt.edit))
			if got := status.Convert(err).Message(); got != want {
				t.Errorf("strict %v, %s: got %q, want %q", strict, tt.url, got, want)
			}
		}
	}
}

// TestTokenOfAQueueNeedsHTTPS: where the queue adds the token or changes the
// URL, the dispatch fails and the target sees nothing.
func TestTokenOfAQueueNeedsHTTPS(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, emulator.Config{})
		token := &cloudtaskspb.HttpTarget_OidcToken{OidcToken: &cloudtaskspb.OidcToken{ServiceAccountEmail: account, Audience: "a"}}
		scheme, host := cloudtaskspb.UriOverride_HTTP, "worker.example.com"
		for id, target := range map[string]*cloudtaskspb.HttpTarget{
			"token":  {AuthorizationHeader: token, UriOverride: &cloudtaskspb.UriOverride{Scheme: &scheme}},
			"scheme": {UriOverride: &cloudtaskspb.UriOverride{Scheme: &scheme, Host: &host}},
		} {
			queue := location + "/queues/" + id
			s.createQueue(&cloudtaskspb.Queue{Name: queue, HttpTarget: target, RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: 1}})
			task, err := s.client.CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: queue, Task: httpTask("https://worker.example.com/", withOIDC)})
			assert.NoError(t, err)
			s.wait()
			got := s.srv.Dispatches(task.GetName())
			assert.Equal(t, len(got), 1)
			assert.Equal(t, strings.Contains(got[0].Err, "the URL must begin with https://"), true)
		}
		assert.Equal(t, len(s.worker.deliveries()), 0)
	})
}

// TestBadURLs: a bad URL is refused when the task is created, before any dispatch.
func TestBadURLs(t *testing.T) {
	t.Parallel()
	s := begin(t, emulator.Config{})
	for _, url := range []string{"http://", "https:///x", "http://a b/", "http://h:99999/", "http://[::1/", "http://a\nb/"} {
		_, err := s.send(httpTask(url, nil))
		if status.Code(err) != codes.InvalidArgument || !strings.HasPrefix(status.Convert(err).Message(), urlErrors) {
			t.Errorf("%q: got %v", url, err)
		}
	}
	_, err := s.send(httpTask("http://h/"+strings.Repeat("ü", 400), nil)) // 2,409 characters once encoded
	assert.ErrorContains(t, err, "at most 2083 characters")
}

// TestURLsAreEncoded: how a URL is stored, and how a handler in the process sees it.
func TestURLsAreEncoded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, emulator.Config{AppEngine: map[string]string{"default": "http://app"}})
		for i, tt := range []struct{ url, want string }{
			{"https://h/search?q=two words", "/search?q=two%20words"},
			{"https://h/files/a%2Fb/ü", "/files/a%2Fb/%C3%BC"},
			{"https://h/%25/%zz?q=%", "/%25/%25zz?q=%25"},
			{"https://h?q=1", "/?q=1"},
			{"https://user:secret@h//a/../b", "//a/../b"},
		} {
			task, err := s.send(httpTask(tt.url, nil))
			assert.NoError(t, err)
			if stored := task.GetHttpRequest().GetUrl(); strings.ContainsAny(stored, " ü") {
				t.Errorf("%s is stored as %s", tt.url, stored)
			}
			s.wait()
			assert.Equal(t, s.worker.deliveries()[i].path, tt.want)
		}
		n := len(s.worker.deliveries())
		task, err := s.send(&cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_AppEngineHttpRequest{
			AppEngineHttpRequest: &cloudtaskspb.AppEngineHttpRequest{RelativeUri: "/a://b%2Fü?q=ü"},
		}})
		assert.NoError(t, err)
		assert.Equal(t, task.GetAppEngineHttpRequest().GetRelativeUri(), "/a://b%2F%C3%BC?q=%C3%BC")
		s.wait()
		assert.Equal(t, s.worker.deliveries()[n].path, "/a://b%2F%C3%BC?q=%C3%BC")

		host := "bücher.example"
		s.createQueue(&cloudtaskspb.Queue{Name: location + "/queues/override", HttpTarget: &cloudtaskspb.HttpTarget{UriOverride: &cloudtaskspb.UriOverride{
			Host:          &host,
			PathOverride:  &cloudtaskspb.PathOverride{Path: "a b?c#d/%2F"},
			QueryOverride: &cloudtaskspb.QueryOverride{QueryParams: "q=two words&x=ü#y"},
		}}})
		_, err = s.client.CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: location + "/queues/override", Task: httpTask("https://h/x?y", nil)})
		assert.NoError(t, err)
		s.wait()
		const want = "/a%20b%3Fc%23d/%2F?q=two%20words&x=%C3%BC%23y"
		assert.Equal(t, s.worker.deliveries()[n+1].path, want)
		code, body := s.request(t.Context(), http.MethodPost, "/v2/"+location+"/queues/override/tasks:buffer", "{}")
		assert.Status(t, code, http.StatusOK)
		var buffered struct {
			Task struct{ HTTPRequest struct{ URL string } }
		}
		assert.NoError(t, json.Unmarshal([]byte(body), &buffered))
		assert.Equal(t, buffered.Task.HTTPRequest.URL, "https://xn--bcher-kva.example"+want)
		s.wait()
		assert.Equal(t, s.worker.deliveries()[n+2].path, want)
	})
}

// TestHandlerSeesARequestOfASocket: a handler in the process sees the whole request as over a socket.
func TestHandlerSeesARequestOfASocket(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 1)
	srv := emulator.RunT(t, emulator.Config{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r })})
	s := &setup{T: t, srv: srv, client: googleClient(t, srv)}
	s.createQueue(&cloudtaskspb.Queue{Name: emails})
	_, err := s.send(httpTask("https://user:secret@bücher.example:81/a%2Fb?c#d", func(r *cloudtaskspb.HttpRequest) {
		r.Body = []byte("hello")
		r.Headers = map[string]string{"X-Padded": "  value\t"}
	}))
	assert.NoError(t, err)
	r := <-seen
	assert.Equal(t, r.Host, "xn--bcher-kva.example:81")
	assert.Equal(t, r.URL.String(), "/a%2Fb?c")
	assert.Equal(t, r.RequestURI, "/a%2Fb?c")
	assert.Equal(t, r.URL.User == nil, true)
	assert.Equal(t, r.Header.Get("X-Padded"), "value")
	assert.Equal(t, r.ContentLength, int64(5))
	assert.Equal(t, r.Header.Get("Authorization"), "")
}

// TestHeaders: headers that HTTP does not allow are refused. The error does not repeat
// a value, which may be secret.
func TestHeaders(t *testing.T) {
	t.Parallel()
	s := begin(t, emulator.Config{})
	for name, value := range map[string]string{
		"": "x", "X Foo": "x", "X-Foo:": "x", "Xü": "x", "X-Foo\r\nX-Bar": "x",
		"X-A": "secret\nX-B: x", "X-B": "secret\x00", "X-C": "secret\r", "X-D": "secret\x7f",
	} {
		app := &cloudtaskspb.AppEngineHttpRequest{Headers: map[string]string{name: value}}
		target := &cloudtaskspb.HttpTarget{HeaderOverrides: []*cloudtaskspb.HttpTarget_HeaderOverride{{Header: &cloudtaskspb.HttpTarget_Header{Key: name, Value: value}}}}
		_, err := s.send(httpTask("https://h/", func(r *cloudtaskspb.HttpRequest) { r.Headers = map[string]string{name: value} }))
		_, err2 := s.send(&cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_AppEngineHttpRequest{AppEngineHttpRequest: app}})
		_, err3 := s.client.UpdateQueue(t.Context(), &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{Name: emails, HttpTarget: target}})
		for _, err := range []error{err, err2, err3} {
			if status.Code(err) != codes.InvalidArgument || strings.Contains(status.Convert(err).Message(), "secret") {
				t.Errorf("%q %q: got %v", name, value, err)
			}
		}
	}
	for range 30 { // in the order of a map, the outcome would vary
		_, err := s.send(httpTask("https://h/", func(r *cloudtaskspb.HttpRequest) {
			r.Headers = map[string]string{"content-type": "text/a", "Content-Type": "text/b", "X-Text": "é\tü"}
		}))
		assert.NoError(t, err)
	}
	s.wait()
	for _, d := range s.worker.deliveries() {
		assert.Equal(t, d.header.Values("Content-Type"), []string{"text/a"})
		assert.Equal(t, d.header.Get("X-Text"), "é\tü")
	}
}

// target sets the HTTP target of the queue and returns the code of the call.
func (s *setup) target(target *cloudtaskspb.HttpTarget) codes.Code {
	_, err := s.client.UpdateQueue(s.Context(), &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{Name: emails, HttpTarget: target}})
	return status.Code(err)
}

func TestHostOverride(t *testing.T) {
	t.Parallel()
	s := begin(t, emulator.Config{})
	for host, want := range map[string]codes.Code{
		"worker.example.com": codes.OK, "::1": codes.OK, "[::1]": codes.OK, "worker": codes.OK,
		"": codes.InvalidArgument, "https://worker": codes.InvalidArgument, "worker:8080": codes.InvalidArgument, "worker/x": codes.InvalidArgument,
		"a b": codes.InvalidArgument, "worker\r\nX: y": codes.InvalidArgument, "user@worker": codes.InvalidArgument, "[": codes.InvalidArgument,
	} {
		if got := s.target(&cloudtaskspb.HttpTarget{UriOverride: &cloudtaskspb.UriOverride{Host: &host}}); got != want {
			t.Errorf("%q: got %v, want %v", host, got, want)
		}
	}
}

// TestAppEngineRouting: no part of a routing changes the host that the others
// make, or the path.
func TestAppEngineRouting(t *testing.T) {
	t.Parallel()
	s := begin(t, emulator.Config{})
	beta := betapb.NewCloudTasksClient(s.srv.Conn())
	queue := &cloudtaskspb.Queue{Name: emails}
	for _, part := range []string{"", "s-1", "a.evil.example/x", "a\r\nb", "a b", "@", "a/b", "ü", strings.Repeat("a", 101)} {
		want := codes.InvalidArgument
		if part == "" || part == "s-1" {
			want = codes.OK
		}
		for _, routing := range []*cloudtaskspb.AppEngineRouting{{Service: part}, {Version: part}, {Instance: part}} {
			r := &betapb.AppEngineRouting{Service: routing.GetService(), Version: routing.GetVersion(), Instance: routing.GetInstance()}
			_, ofTask := s.send(&cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_AppEngineHttpRequest{
				AppEngineHttpRequest: &cloudtaskspb.AppEngineHttpRequest{AppEngineRouting: routing},
			}})
			_, ofBetaTask := beta.CreateTask(t.Context(), &betapb.CreateTaskRequest{Parent: emails, Task: &betapb.Task{
				PayloadType: &betapb.Task_AppEngineHttpRequest{AppEngineHttpRequest: &betapb.AppEngineHttpRequest{AppEngineRouting: r}},
			}})
			queue.AppEngineRoutingOverride = routing
			_, ofQueue := s.client.UpdateQueue(t.Context(), &cloudtaskspb.UpdateQueueRequest{Queue: queue})
			_, ofBetaQueue := beta.UpdateQueue(t.Context(), &betapb.UpdateQueueRequest{Queue: &betapb.Queue{
				Name: emails, QueueType: &betapb.Queue_AppEngineHttpQueue{AppEngineHttpQueue: &betapb.AppEngineHttpQueue{AppEngineRoutingOverride: r}},
			}})
			for i, err := range []error{ofTask, ofBetaTask, ofQueue, ofBetaQueue} {
				if status.Code(err) != want {
					t.Errorf("%d of %v: got %v, want %v", i, routing, err, want)
				}
			}
		}
	}
}

// TestEndsOfFields: the limits of a field hold for the values on both sides.
func TestEndsOfFields(t *testing.T) {
	t.Parallel()
	s := begin(t, emulator.Config{})
	for bytes, want := range map[int]codes.Code{80<<10 - 1: codes.OK, 80 << 10: codes.InvalidArgument} {
		_, err := s.send(httpTask("https://h/", func(r *cloudtaskspb.HttpRequest) { r.Headers = map[string]string{"X": strings.Repeat("x", bytes-1)} }))
		assert.Equal(t, status.Code(err), want)
	}
	for bytes, want := range map[int]codes.Code{80<<10 - 1: codes.OK, 80 << 10: codes.InvalidArgument} {
		header := &cloudtaskspb.HttpTarget_Header{Key: "X", Value: strings.Repeat("x", bytes-2)}
		assert.Equal(t, s.target(&cloudtaskspb.HttpTarget{HeaderOverrides: []*cloudtaskspb.HttpTarget_HeaderOverride{{Header: header}, {Header: &cloudtaskspb.HttpTarget_Header{Key: "Y"}}}}), want)
	}
	for length, want := range map[int]codes.Code{2083: codes.OK, 2084: codes.InvalidArgument} {
		long := strings.Repeat("x", length)
		assert.Equal(t, s.target(&cloudtaskspb.HttpTarget{UriOverride: &cloudtaskspb.UriOverride{PathOverride: &cloudtaskspb.PathOverride{Path: long}}}), want)
		assert.Equal(t, s.target(&cloudtaskspb.HttpTarget{UriOverride: &cloudtaskspb.UriOverride{QueryOverride: &cloudtaskspb.QueryOverride{QueryParams: long}}}), want)
	}
	for version, want := range map[int32]codes.Code{0: codes.OK, 1: codes.OK, 2: codes.InvalidArgument, 3: codes.OK, 4: codes.InvalidArgument, -1: codes.InvalidArgument} {
		_, err := s.client.SetIamPolicy(t.Context(), &iampb.SetIamPolicyRequest{Resource: emails, Policy: &iampb.Policy{Version: version}})
		assert.Equal(t, status.Code(err), want)
	}
	for id, want := range map[string]codes.Code{
		"": codes.OK, "6f1f1b9e-8a2b-4f4e-9a70-0b6d7f6f1c11": codes.OK, "6F1F1B9E-8A2B-4F4E-BA70-0B6D7F6F1C11": codes.OK,
		"r": codes.InvalidArgument, "6f1f1b9e-8a2b-1f4e-9a70-0b6d7f6f1c11": codes.InvalidArgument, "00000000-0000-0000-0000-000000000000": codes.InvalidArgument,
	} {
		_, err := s.client.BatchDeleteTasks(t.Context(), &cloudtaskspb.BatchDeleteTasksRequest{Parent: emails, Names: []string{emails + "/tasks/t"}, RequestId: id})
		assert.Equal(t, status.Code(err), want)
	}
}

// TestEnums: a number that is not in an enum is refused in every message.
func TestEnums(t *testing.T) {
	t.Parallel()
	s := begin(t, emulator.Config{})
	const none = 99
	scheme := cloudtaskspb.UriOverride_Scheme(none)
	queue := func(target *cloudtaskspb.HttpTarget) error {
		_, err := s.client.UpdateQueue(t.Context(), &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{Name: emails, HttpTarget: target}})
		return err
	}
	_, method := s.send(httpTask("https://h/", func(r *cloudtaskspb.HttpRequest) { r.HttpMethod = none }))
	_, view := s.client.CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: emails, Task: httpTask("https://h/", nil), ResponseView: none})
	_, batch := cloudtaskspb.NewCloudTasksClient(s.srv.Conn()).BatchCreateTasks(t.Context(), &cloudtaskspb.BatchCreateTasksRequest{
		Parent: emails, Requests: []*cloudtaskspb.CreateTaskRequest{{Parent: emails, Task: httpTask("https://h/", func(r *cloudtaskspb.HttpRequest) { r.HttpMethod = none })}},
	})
	_, beta := betapb.NewCloudTasksClient(s.srv.Conn()).UpdateQueue(t.Context(), &betapb.UpdateQueueRequest{Queue: &betapb.Queue{Name: emails, Type: none}})
	for text, err := range map[string]error{
		"HttpRequest.httpMethod: 99":             method,
		"CreateTaskRequest.responseView: 99":     view,
		"HttpRequest.httpMethod: 99 (batch)":     batch,
		"Queue.type: 99":                         beta,
		"HttpTarget.httpMethod: 99":              queue(&cloudtaskspb.HttpTarget{HttpMethod: none}),
		"UriOverride.scheme: 99":                 queue(&cloudtaskspb.HttpTarget{UriOverride: &cloudtaskspb.UriOverride{Scheme: &scheme}}),
		"UriOverride.uriOverrideEnforceMode: 99": queue(&cloudtaskspb.HttpTarget{UriOverride: &cloudtaskspb.UriOverride{UriOverrideEnforceMode: none}}),
	} {
		want, _, _ := strings.Cut(text, " (")
		if got := status.Convert(err).Message(); got != "Invalid value for "+want+"." {
			t.Errorf("%s: got %v", text, err)
		}
	}
	code, _ := s.request(t.Context(), http.MethodPost, "/v2/"+emails+"/tasks", `{"task":{"httpRequest":{"url":"https://h/","httpMethod":99}}}`)
	assert.Status(t, code, http.StatusBadRequest)
}

// TestRoutingHeader: a routing header must name the resource of its request; only a
// strict server requires it.
func TestRoutingHeader(t *testing.T) {
	t.Parallel()
	for _, strict := range []bool{false, true} {
		srv := emulator.RunT(t, emulator.Config{Strict: strict})
		raw := cloudtaskspb.NewCloudTasksClient(srv.Conn())
		missing := codes.OK
		if strict {
			missing = codes.InvalidArgument
		}
		for header, want := range map[string]codes.Code{
			"":                   missing,
			"other=x":            missing,
			"parent=" + location: codes.OK,
			"parent=projects%2Fp%2Flocations%2Fus-central1": codes.OK,
			"parent=projects/other/locations/us-central1":   codes.InvalidArgument,
			"parent=%zz": codes.InvalidArgument,
		} {
			ctx := t.Context()
			if header != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, "x-goog-request-params", header)
			}
			_, err := raw.ListQueues(ctx, &cloudtaskspb.ListQueuesRequest{Parent: location})
			if status.Code(err) != want {
				t.Errorf("strict %v, %q: got %v, want %v", strict, header, err, want)
			}
		}
		// Google's client sends it with every call.
		s := &setup{T: t, srv: srv, client: googleClient(t, srv)}
		s.createQueue(&cloudtaskspb.Queue{Name: emails})
		_, err := s.client.UpdateQueue(t.Context(), &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{Name: emails}})
		assert.NoError(t, err)
		task, err := s.send(httpTask("https://h/", nil))
		assert.NoError(t, err)
		_, err = s.client.GetTask(t.Context(), &cloudtaskspb.GetTaskRequest{Name: task.GetName()})
		assert.NoError(t, err)
	}
}

// TestErrorsOfTimes: texts have fractions of a second, and Pacific time.
func TestErrorsOfTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // it begins on 2000-01-01
		s := begin(t, emulator.Config{})
		at := time.Date(2000, 7, 1, 3, 4, 5, 678_900_000, time.UTC)
		task := httpTask("https://h/", nil)
		task.ScheduleTime = timestamppb.New(at)
		_, err := s.send(task)
		assert.ErrorContains(t, err, "The Task.scheduleTime, 2000-06-30T20:04:05.6789-07:00, is too far in the future.")
		ctx, cancel := context.WithDeadline(t.Context(), at)
		defer cancel()
		err = s.srv.Conn().Invoke(ctx, "/google.cloud.tasks.v2.CloudTasks/GetQueue", &cloudtaskspb.GetQueueRequest{Name: emails}, new(cloudtaskspb.Queue))
		// gRPC sends the time that is left, in whole milliseconds when it is this long.
		assert.ErrorContains(t, err, "The request deadline is 2000-06-30T20:04:")
	})
}
