package handoff

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff/internal/create"
	"github.com/brillconsulting/handoff/internal/target"
)

// Target is where a [Client] has its tasks delivered: an [HTTPTarget] or an
// [AppEngineTarget].
type Target interface {
	check(field string) error
	resolved() Target
	base() string // what tasks are stamped with; parseTarget reads it
	address(suffix string) (string, error)
	task(address, method string, header map[string]string, body []byte) *cloudtaskspb.Task
	appEngine() bool
	authorizes() bool // the service sets Authorization and replaces the task's own
}

// HTTPTarget delivers to a URL that Cloud Tasks can reach: Cloud Run, or
// anything else with a public address.
type HTTPTarget struct {
	_ [0]func()

	// URL is where the router is mounted, such as
	// "https://worker.example.com/tasks". "/<kind>" is appended to its path. It
	// must have no query and no credentials, because every task carries it in a
	// header: a copy of a task is delivered to the same URL.
	URL string

	// ServiceAccount is the email of the account whose OIDC token deliveries
	// carry. It must belong to the queue's project, and the producer needs
	// iam.serviceAccounts.actAs on it
	// (https://cloud.google.com/tasks/docs/creating-http-target-tasks#token).
	// The service sends tokens over https only. With http, URL must have a
	// development host, for an emulator: localhost, a name without a dot, a
	// name below .localhost, .local or .internal, or a private address.
	ServiceAccount string

	// Audience is the audience of the token. The receiver lists it in
	// [OIDCConfig].Audiences. Defaults to the origin of URL, such as
	// "https://worker.example.com", which Cloud Run expects. The service's own
	// default, the URL of each task, is never used
	// (https://cloud.google.com/tasks/docs/reference/rest/v2/OidcToken).
	Audience string

	// DangerouslySendUnsigned allows an empty ServiceAccount. Deliveries then
	// carry no token, and a receiver cannot tell them from other requests.
	DangerouslySendUnsigned bool
}

// AppEngineTarget delivers to the App Engine app of the queue's project.
type AppEngineTarget struct {
	_ [0]func()

	// Service, Version and Instance route the tasks. They default to the app's
	// default service, that service's default version, and any instance.
	// Instance needs manual scaling
	// (https://cloud.google.com/tasks/docs/reference/rest/v2/AppEngineRouting).
	Service, Version, Instance string

	// Path is where the router is mounted, such as "/tasks". It must have no
	// query. "/<kind>" is appended to it. Defaults to the root.
	Path string
}

func (t HTTPTarget) check(field string) error {
	var errs []error
	if u, err := create.URL(t.URL); err != nil {
		errs = append(errs, fmt.Errorf("handoff: %s.URL: %w", field, err))
	} else {
		if u.RawQuery != "" || u.ForceQuery {
			errs = append(errs, fmt.Errorf("handoff: %s.URL of host %q has a query, and tasks carry the URL in a header; remove it, and set what it says with the option Header", field, u.Host))
		}
		if err := tokenNeedsTLS(u, t.ServiceAccount); err != nil {
			errs = append(errs, fmt.Errorf("handoff: %s.URL: %w", field, err))
		}
	}
	switch {
	case t.ServiceAccount == "" && !t.DangerouslySendUnsigned:
		errs = append(errs, fmt.Errorf("handoff: %s.ServiceAccount is empty; name the account that signs deliveries, or set DangerouslySendUnsigned to send them without a token", field))
	case t.ServiceAccount != "" && t.DangerouslySendUnsigned:
		errs = append(errs, fmt.Errorf("handoff: %s.ServiceAccount and DangerouslySendUnsigned are both set; remove one", field))
	case t.ServiceAccount == "" && t.Audience != "":
		errs = append(errs, fmt.Errorf("handoff: %s.Audience is %q without a ServiceAccount to sign for it", field, t.Audience))
	case t.ServiceAccount != "" && !strings.Contains(t.ServiceAccount, "@"):
		errs = append(errs, fmt.Errorf("handoff: %s.ServiceAccount is %q; it must be an email", field, t.ServiceAccount))
	}
	return errors.Join(errs...)
}

// tokenNeedsTLS returns an error for a token on a plain http URL, which the
// service refuses (docs/cloud-tasks.md#10.1). Development hosts are for emulators.
func tokenNeedsTLS(u *url.URL, serviceAccount string) error {
	if u.Scheme == "http" && serviceAccount != "" && !target.IsDevelopment(u.Hostname()) {
		return fmt.Errorf("URL of host %q is http and ServiceAccount is set; the service sends tokens over https only", u.Host)
	}
	return nil
}

func (t HTTPTarget) resolved() Target {
	if t.ServiceAccount != "" {
		t.Audience = cmp.Or(t.Audience, origin(t.URL))
	}
	return t
}

// origin returns the scheme and host of a URL, or nothing if it is not one.
func origin(raw string) string {
	u, err := create.URL(raw)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

func (t HTTPTarget) base() string {
	u, err := create.URL(t.URL)
	if err != nil {
		return t.URL // from a stamp; address returns the error
	}
	return strings.TrimRight(u.String(), "/")
}

func (t HTTPTarget) address(suffix string) (string, error) {
	u, err := create.URL(t.URL)
	if err != nil {
		return "", err
	}
	address := u.JoinPath(suffix).String()
	_, err = create.URL(address)
	return address, err
}

func (t HTTPTarget) task(address, method string, header map[string]string, body []byte) *cloudtaskspb.Task {
	r := &cloudtaskspb.HttpRequest{
		Url:        address,
		Headers:    header,
		Body:       body,
		HttpMethod: cloudtaskspb.HttpMethod(cloudtaskspb.HttpMethod_value[method]),
	}
	if t.ServiceAccount != "" {
		r.AuthorizationHeader = oidcToken(t.ServiceAccount, t.Audience)
	}
	return &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: r}}
}

func (t HTTPTarget) appEngine() bool  { return false }
func (t HTTPTarget) authorizes() bool { return t.ServiceAccount != "" }

func oidcToken(account, audience string) *cloudtaskspb.HttpRequest_OidcToken {
	return &cloudtaskspb.HttpRequest_OidcToken{OidcToken: &cloudtaskspb.OidcToken{
		ServiceAccountEmail: account,
		Audience:            audience,
	}}
}

func (t AppEngineTarget) check(field string) error {
	if t.Path == "" {
		return nil
	}
	if err := create.RelativeURI(t.Path); err != nil {
		return fmt.Errorf("handoff: %s.Path: %w", field, err)
	}
	if strings.Contains(t.Path, "?") {
		return fmt.Errorf("handoff: %s.Path %q has a query, to which the kind would be appended", field, strings.SplitN(t.Path, "?", 2)[0])
	}
	if strings.ContainsFunc(t.Path, func(r rune) bool { return r > '~' }) {
		return fmt.Errorf("handoff: %s.Path %q holds more than ASCII, and tasks carry it in a header; escape it", field, t.Path)
	}
	return nil
}

func (t AppEngineTarget) resolved() Target { return t }

// appEngineScheme begins the base of an App Engine target.
const appEngineScheme = "appengine:"

func (t AppEngineTarget) base() string {
	routing := make(url.Values)
	for name, value := range map[string]string{"service": t.Service, "version": t.Version, "instance": t.Instance} {
		if value != "" {
			routing.Set(name, value)
		}
	}
	base := appEngineScheme + "/" + strings.Trim(t.Path, "/")
	if len(routing) > 0 {
		base += "?" + routing.Encode()
	}
	return base
}

func (t AppEngineTarget) address(suffix string) (string, error) {
	uri := strings.TrimSuffix(t.Path, "/") + "/" + strings.TrimPrefix(suffix, "/")
	return uri, create.RelativeURI(uri)
}

func (t AppEngineTarget) task(address, method string, header map[string]string, body []byte) *cloudtaskspb.Task {
	r := &cloudtaskspb.AppEngineHttpRequest{
		RelativeUri: address,
		Headers:     header,
		Body:        body,
		HttpMethod:  cloudtaskspb.HttpMethod(cloudtaskspb.HttpMethod_value[method]),
	}
	if t.Service != "" || t.Version != "" || t.Instance != "" {
		r.AppEngineRouting = &cloudtaskspb.AppEngineRouting{Service: t.Service, Version: t.Version, Instance: t.Instance}
	}
	return &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_AppEngineHttpRequest{AppEngineHttpRequest: r}}
}

func (t AppEngineTarget) appEngine() bool  { return true }
func (t AppEngineTarget) authorizes() bool { return false }

// shown returns the target that a task was stamped with, without what may be secret in
// a URL. A client has no target with such parts, but another producer may.
func shown(base string) string {
	u, err := url.Parse(base)
	switch {
	case err != nil:
		return "a target that cannot be parsed"
	case u.Scheme+":" != appEngineScheme:
		u.User, u.RawQuery, u.Fragment = nil, "", ""
	}
	return u.String()
}

// parseTarget returns the target that a task was stamped with. Its deliveries
// are signed as the verified caller, or unsigned if caller is zero.
func parseTarget(base string, caller Caller) (Target, error) {
	rest, ok := strings.CutPrefix(base, appEngineScheme)
	if !ok {
		return HTTPTarget{URL: base, ServiceAccount: caller.Email, Audience: caller.Audience}, nil
	}
	path, query, _ := strings.Cut(rest, "?")
	routing, err := url.ParseQuery(query)
	if err != nil {
		return nil, errors.New("the routing of its App Engine target cannot be parsed")
	}
	return AppEngineTarget{
		Service: routing.Get("service"), Version: routing.Get("version"), Instance: routing.Get("instance"),
		Path: strings.TrimSuffix(path, "/"),
	}, nil
}
