package handoff

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff/internal/create"
	"github.com/brillconsulting/handoff/internal/fence"
	"github.com/brillconsulting/handoff/internal/wire"
)

// Request is a task without a payload type: any URL, method, headers and body.
type Request struct {
	_ [0]func()

	// URL is absolute, http or https, at most 2,083 characters encoded. For
	// App Engine it is relative to the app, and begins with '/'.
	URL string

	// AppEngine routes a relative URL, which is appended to its Path. The
	// client's Target is not used for a Request.
	AppEngine *AppEngineTarget

	// Method is POST, GET, HEAD, PUT, DELETE, PATCH or OPTIONS. Defaults to
	// POST.
	Method string

	// Header is sent with the request. Values of one name are joined by a comma.
	Header http.Header

	// Body is sent as it is, with POST, PUT and PATCH (App Engine: POST and
	// PUT). If Header has no Content-Type, HTTP targets get none.
	Body []byte

	// ServiceAccount is the email of the account whose token the request
	// carries: an OIDC token for Audience, which defaults to the origin of URL,
	// or, if Scope is set, an OAuth access token, for *.googleapis.com only.
	// Defaults to no token.
	ServiceAccount, Audience, Scope string

	// Retry is the task's retry policy, which replaces the queue's. If any field
	// is set, zero fields stand for the defaults of [Retry]. MaxAttempts counts
	// every dispatch, even one that reaches no handler. Defaults to the queue's
	// policy.
	Retry Retry

	// Unnamed lets the service choose the task's name, which is faster
	// (https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues.tasks/create).
	// A create whose response is lost is then not retried and returns
	// [ErrUnknown].
	Unnamed bool
}

// EnqueueRequest creates a task without a payload type, for a receiver without a
// [Router] or for a body that is not JSON. It takes the same options as
// [Client.Enqueue] and returns the same errors. The options override
// [ClientConfig].Policy; there are no other defaults, so that a task has no TTL
// unless one is set.
//
// Before the first try the task is named by a random ID, so that a create can be
// retried without creating a second task. The task carries the same Handoff-*
// headers as a typed task. Only a Router fences it. Any other receiver may get it
// more than once, as Cloud Tasks delivers at least once.
func (c *Client) EnqueueRequest(ctx context.Context, r Request, opts ...Option) (Receipt, error) {
	call, err := newCall(opts)
	if err != nil {
		return Receipt{}, err
	}
	d, err := c.draftRequest(r, call, time.Now())
	if err != nil {
		return Receipt{}, fmt.Errorf("handoff: enqueue request: %w", err)
	}
	return c.create(ctx, d)
}

func (c *Client) draftRequest(r Request, call *call, now time.Time) (*draft, error) {
	parts, err := r.parts(call.header)
	if err != nil {
		return nil, err
	}
	due, later, err := call.due(now)
	if err != nil {
		return nil, err
	}
	policy := call.policy.over(c.config.Policy)
	stamp := wire.Stamp{ID: fence.NewID(), Headers: wire.HeaderNames(parts.header), Enqueued: now, Deadline: policy.Deadline}
	if policy.TTL > 0 {
		stamp.Expires = due.Add(policy.TTL)
	}
	if later {
		stamp.Scheduled = due
	}
	if (r.Retry != Retry{}) {
		stamp.MaxAttempts, stamp.Backoff = parts.retry.MaxAttempts, parts.retry.backoff()
	}
	name, err := identify(fence.Work{Project: c.config.Project, Method: parts.method, URL: parts.address, Key: call.key}, call, due, &stamp)
	if err != nil {
		return nil, err
	}
	if name == "" && !r.Unnamed {
		name = stamp.ID
	} else if name != "" && r.Unnamed {
		return nil, errors.New("Request.Unnamed is set, and Key or Name gives a name")
	}
	d, err := c.put(parts.task, stamp, place{queue: policy.Queue, name: name, due: due, later: later})
	if err != nil {
		return nil, err
	}
	d.once = r.Unnamed
	return d, nil
}

// requestParts is a checked Request.
type requestParts struct {
	task    *cloudtaskspb.Task // without name and times
	header  map[string]string
	method  string
	address string // the whole URL; for App Engine, with the routing
	retry   Retry  // with defaults; zero if the queue's policy is used
}

// parts checks r and adds the headers of the options.
func (r *Request) parts(also map[string]string) (requestParts, error) {
	var p requestParts
	target, address, err := r.target()
	if err != nil {
		return p, err
	}
	p.method, p.address = cmp.Or(r.Method, http.MethodPost), address
	if r.AppEngine != nil {
		p.address = AppEngineTarget{Service: r.AppEngine.Service, Version: r.AppEngine.Version, Instance: r.AppEngine.Instance}.base() + " " + address
	}
	if err := r.checkMethod(p.method); err != nil {
		return p, err
	}
	if p.header, err = r.header(also); err != nil {
		return p, err
	}
	policy := Policy{Retry: r.Retry}
	if err := policy.check("Request", r.AppEngine != nil); err != nil {
		return p, err
	}
	p.task = target.task(address, p.method, maps.Clone(p.header), r.Body)
	if r.Scope != "" {
		p.task.GetHttpRequest().AuthorizationHeader = &cloudtaskspb.HttpRequest_OauthToken{
			OauthToken: &cloudtaskspb.OAuthToken{ServiceAccountEmail: r.ServiceAccount, Scope: r.Scope},
		}
	}
	if (r.Retry != Retry{}) {
		p.retry = policy.over(defaultPolicy).Retry
		p.task.RetryConfig = retryConfig(p.retry.backoff(), p.retry.MaxAttempts)
	}
	return p, nil
}

// target returns the target of r and the address of the task there.
func (r *Request) target() (Target, string, error) {
	switch authorized := r.ServiceAccount != "" || r.Audience != "" || r.Scope != ""; {
	case r.AppEngine != nil && authorized:
		return nil, "", errors.New("Request.AppEngine is set with ServiceAccount, Audience or Scope; App Engine needs no token")
	case r.AppEngine != nil:
		if err := r.AppEngine.check("Request.AppEngine"); err != nil {
			return nil, "", err
		}
		if err := create.RelativeURI(r.URL); err != nil {
			return nil, "", fmt.Errorf("Request.URL: %w", err)
		}
		address, err := r.AppEngine.address(r.URL)
		return *r.AppEngine, address, err
	case r.Audience != "" && r.Scope != "":
		return nil, "", errors.New("Request.Audience (OIDC) and Scope (OAuth) are both set; a request carries one token")
	case authorized && !strings.Contains(r.ServiceAccount, "@"):
		return nil, "", fmt.Errorf("Request.ServiceAccount is %q; it must be an email, because the task carries a token", r.ServiceAccount)
	}
	u, err := create.URL(r.URL)
	if err != nil {
		return nil, "", fmt.Errorf("Request.URL: %w", err)
	}
	if err := tokenNeedsTLS(u, r.ServiceAccount); err != nil {
		return nil, "", fmt.Errorf("Request.URL: %w", err)
	}
	target := HTTPTarget{URL: r.URL, ServiceAccount: r.ServiceAccount, Audience: r.Audience}
	return target.resolved(), u.String(), nil
}

// checkMethod checks the method, and that it may carry the body
// (docs/cloud-tasks.md#4).
func (r *Request) checkMethod(method string) error {
	if _, ok := cloudtaskspb.HttpMethod_value[method]; !ok || method == "HTTP_METHOD_UNSPECIFIED" {
		return fmt.Errorf("Request.Method is %q; the service knows POST, GET, HEAD, PUT, DELETE, PATCH and OPTIONS", method)
	}
	carriers := []string{http.MethodPost, http.MethodPut, http.MethodPatch}
	if r.AppEngine != nil {
		carriers = carriers[:2]
	}
	if len(r.Body) > 0 && !slices.Contains(carriers, method) {
		return fmt.Errorf("Request.Body is %d bytes with method %s; only %s carry a body", len(r.Body), method, strings.Join(carriers, ", "))
	}
	return nil
}

// header returns the headers of r and of the options.
func (r *Request) header(also map[string]string) (map[string]string, error) {
	header := make(map[string]string, len(r.Header)+len(also)+8)
	for name, values := range r.Header {
		value := strings.Join(values, ", ")
		canonical, err := create.Header(name, value)
		if err != nil {
			return nil, fmt.Errorf("Request.Header: %w", err)
		}
		header[canonical] = value
	}
	maps.Copy(header, also)
	if _, ok := header["Authorization"]; ok && r.ServiceAccount != "" {
		return nil, errors.New("header Authorization would be replaced by the token of Request.ServiceAccount")
	}
	return header, nil
}
