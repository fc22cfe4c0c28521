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
	// client's Target plays no part in a Request.
	AppEngine *AppEngineTarget

	// Method defaults to POST. GET, HEAD, PUT, DELETE, PATCH and OPTIONS are
	// the others that the service knows.
	Method string

	// Header goes along; values of one name are joined by a comma.
	Header http.Header

	// Body is sent as it is, with POST, PUT and PATCH (App Engine: POST and
	// PUT). If Header has no Content-Type, HTTP targets get none.
	Body []byte

	// ServiceAccount is the email of the account that the service
	// authenticates the request as: by an OIDC token for Audience (default:
	// the origin of URL), or by an OAuth access token of Scope, which is for
	// *.googleapis.com only. Defaults to no token.
	ServiceAccount, Audience, Scope string

	// Retry is the task's own retry policy, limit included, and replaces the
	// queue's. Its zero fields are the defaults of [Retry]. The service counts
	// every dispatch, also those that reach no handler. Defaults to the
	// queue's.
	Retry Retry

	// Unnamed saves the name that makes a create safe to repeat: named creates
	// are slower
	// (https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues.tasks/create).
	// A create that fails on the way is then not tried again and returns
	// [ErrUnknown].
	Unnamed bool
}

// EnqueueRequest creates a task that is not typed: for a receiver without a
// [Router], or with another body than JSON. It takes the same options as
// [Client.Enqueue] and returns the same errors. Of the policies, only those of
// the call and the client count, without defaults: a TTL, if none is given,
// does not exist.
//
// The task is named by a random ID before the first try, so that creates that
// fail on the way can be repeated without making it twice. It carries the same
// Handoff-* headers as a typed task, which a Router believes and others
// ignore. Nothing but a Router fences it: another receiver gets what Cloud
// Tasks promises, at least once.
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

// requestParts is what the fields of a Request come to.
type requestParts struct {
	task    *cloudtaskspb.Task // without name and times
	header  map[string]string
	method  string
	address string // the whole URL; of App Engine, with its routing
	retry   Retry  // whole, if the task has one of its own
}

// parts checks r, and adds the header of the options to its own.
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

// target is the Request's own, and the address of the task there.
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
		return nil, "", fmt.Errorf("Request.ServiceAccount is %q; a token needs the email of one", r.ServiceAccount)
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

// checkMethod says which methods may carry a body (docs/cloud-tasks.md#4).
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

// header is that of r, with that of the options.
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
