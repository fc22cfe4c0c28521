package handoff_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
)

func TestEnqueueRequestHTTP(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	client := server.client(t, func(c *handoff.ClientConfig) { c.CompressOver = 1 })
	body := strings.Repeat("raw ", 10_000) // travels as it is
	receipt, err := client.EnqueueRequest(t.Context(), handoff.Request{
		URL:    "https://receiver.example.com/hook?id=1&q=a b",
		Method: http.MethodPut,
		Header: http.Header{"content-type": {"text/plain"}, "X-Many": {"a", "b"}},
		Body:   []byte(body),
	}, handoff.In(time.Hour), handoff.Header("X-Tenant", "acme"), handoff.Deadline(time.Minute), handoff.TTL(2*time.Hour))
	assert.NoError(t, err)
	task := server.only(t)
	r := task.GetHttpRequest()
	assert.Equal(t, r.GetUrl(), "https://receiver.example.com/hook?id=1&q=a%20b")
	assert.Equal(t, r.GetHttpMethod(), cloudtaskspb.HttpMethod_PUT)
	assert.Equal(t, string(r.GetBody()), body)
	assert.Equal(t, r.GetHeaders()["Content-Type"], "text/plain")
	assert.Equal(t, r.GetHeaders()["X-Many"], "a, b")
	assert.Equal(t, r.GetHeaders()["X-Tenant"], "acme")
	assert.Equal(t, r.GetHeaders()["Handoff-Id"], receipt.ID)
	assert.Equal(t, r.GetHeaders()["Handoff-Deadline"], "60000")
	assert.Equal(t, millis(t, r.GetHeaders(), "Handoff-Expires").Sub(millis(t, r.GetHeaders(), "Handoff-Scheduled")), 2*time.Hour)
	assert.Equal(t, task.GetDispatchDeadline().AsDuration(), time.Minute)
	if r.GetAuthorizationHeader() != nil || task.RetryConfig != nil {
		t.Errorf("token %v and retry config %v, which nobody asked for", r.GetAuthorizationHeader(), task.RetryConfig)
	}
	// The name is set before the first try.
	assert.Equal(t, task.Name, "projects/p/locations/l/queues/q/tasks/"+receipt.ID)
}

func TestEnqueueRequestTokens(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		request         handoff.Request
		audience, scope string
	}{
		"OIDC for the origin":     {handoff.Request{URL: "https://r.example.com:8443/hook?x=1"}, "https://r.example.com:8443", ""},
		"OIDC without a path":     {handoff.Request{URL: "https://r.example.com?x=1"}, "https://r.example.com", ""},
		"OIDC for somebody else":  {handoff.Request{URL: "https://r.example.com/", Audience: "them"}, "them", ""},
		"OAuth for a Google API":  {handoff.Request{URL: "https://run.googleapis.com/v2/x:run", Scope: "https://www.googleapis.com/auth/cloud-platform"}, "", "https://www.googleapis.com/auth/cloud-platform"},
		"OAuth, another of scope": {handoff.Request{URL: "https://storage.googleapis.com/x", Scope: "s"}, "", "s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := new(taskServer)
			tc.request.ServiceAccount = "caller@p.iam.gserviceaccount.com"
			_, err := server.client(t, nil).EnqueueRequest(t.Context(), tc.request)
			assert.NoError(t, err)
			r := server.only(t).GetHttpRequest()
			assert.Equal(t, r.GetOidcToken().GetAudience(), tc.audience)
			assert.Equal(t, r.GetOauthToken().GetScope(), tc.scope)
			assert.Equal(t, r.GetOidcToken().GetServiceAccountEmail()+r.GetOauthToken().GetServiceAccountEmail(), "caller@p.iam.gserviceaccount.com")
		})
	}
}

func TestEnqueueRequestAppEngine(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	_, err := server.client(t, nil).EnqueueRequest(t.Context(), handoff.Request{
		URL:       "/cron?day=1",
		Method:    http.MethodGet,
		AppEngine: &handoff.AppEngineTarget{Service: "batch", Path: "/jobs"},
	})
	assert.NoError(t, err)
	r := server.only(t).GetAppEngineHttpRequest()
	assert.Equal(t, r.GetRelativeUri(), "/jobs/cron?day=1")
	assert.Equal(t, r.GetHttpMethod(), cloudtaskspb.HttpMethod_GET)
	assert.Equal(t, r.GetAppEngineRouting().GetService(), "batch")
}

func TestEnqueueRequestRetryConfig(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	_, err := server.client(t, nil).EnqueueRequest(t.Context(), handoff.Request{URL: "https://r.example.com", Retry: handoff.Retry{MaxAttempts: 7}})
	assert.NoError(t, err)
	config := server.only(t).GetRetryConfig()
	assert.Equal(t, config.GetMaxAttempts(), 7)
	assert.Equal(t, config.GetMinBackoff().AsDuration(), time.Second)
	assert.Equal(t, config.GetMaxBackoff().AsDuration(), time.Hour)
	assert.Equal(t, config.GetMaxDoublings(), 16)
}

// The receiver may have no fence, so a lost response must not lead to two tasks: a
// named task is deduplicated by its name, and an unnamed one is not retried.
func TestEnqueueRequestLostResponse(t *testing.T) {
	t.Parallel()
	for _, unnamed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			server := &taskServer{script: lost(codes.Unavailable, true)}
			request := handoff.Request{URL: "https://r.example.com", Unnamed: unnamed}
			receipt, err := server.client(t, nil).EnqueueRequest(t.Context(), request)
			if unnamed {
				assert.ErrorIs(t, err, handoff.ErrUnknown)
				assert.Equal(t, status.Code(err), codes.Unavailable)
			} else {
				assert.NoError(t, err)
				assert.Equal(t, receipt.Duplicate, false)
			}
			assert.Equal(t, len(server.taken()), 1)
			creates, _, _ := server.counts()
			if unnamed {
				assert.Equal(t, creates, 1)
			}
		})
	}
}

func TestEnqueueRequestUnnamed(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	_, err := server.client(t, nil).EnqueueRequest(t.Context(), handoff.Request{URL: "https://r.example.com", Unnamed: true})
	assert.NoError(t, err)
	assert.Equal(t, server.only(t).Name, "projects/p/locations/l/queues/q/tasks/00000000000000000001")
}
