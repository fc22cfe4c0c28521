package handoff

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff/internal/create"
)

// Target is where a [Client] has its tasks delivered: an [HTTPTarget] or an
// [AppEngineTarget].
type Target interface {
	check(field string) error
	resolved() Target
	address(suffix string) (string, error)
	task(address, method string, header map[string]string, body []byte) *cloudtaskspb.Task
	appEngine() bool
	authorizes() bool // the service sets Authorization, over any of the task's own
}

// HTTPTarget delivers to a URL that Cloud Tasks can reach: Cloud Run, or
// anything else with a public address.
type HTTPTarget struct {
	_ [0]func()

	// URL is where the router is mounted, such as
	// "https://worker.example.com/tasks". "/<kind>" is appended to its path.
	URL string

	// ServiceAccount is the email of the account that deliveries are signed
	// as, by an OIDC token. It must be of the queue's project, and the producer
	// needs iam.serviceAccounts.actAs on it
	// (https://cloud.google.com/tasks/docs/creating-http-target-tasks#token).
	ServiceAccount string

	// Audience is what the token is for, to be listed at the receiving
	// [Verifier]. Defaults to the origin of URL, which is what Cloud Run
	// expects: "https://worker.example.com". The service's own default, the
	// URL of each task, is never used
	// (https://cloud.google.com/tasks/docs/reference/rest/v2/OidcToken).
	Audience string

	// DangerouslySendUnsigned allows an empty ServiceAccount: deliveries then
	// carry no token, and a receiver cannot tell them from anybody's.
	DangerouslySendUnsigned bool
}

// AppEngineTarget delivers to the App Engine app of the queue's project.
type AppEngineTarget struct {
	_ [0]func()

	// Service, Version and Instance route the tasks. Each defaults to the
	// app's own choice: its default service, that one's default version, any
	// instance. Instance needs manual scaling
	// (https://cloud.google.com/tasks/docs/reference/rest/v2/AppEngineRouting).
	Service, Version, Instance string

	// Path is where the router is mounted, such as "/tasks". "/<kind>" is
	// appended to it. Defaults to the root.
	Path string
}

func (t HTTPTarget) check(field string) error {
	var errs []error
	if _, err := create.URL(t.URL); err != nil {
		errs = append(errs, fmt.Errorf("handoff: %s.URL: %w", field, err))
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

func (t HTTPTarget) resolved() Target {
	if t.ServiceAccount != "" {
		t.Audience = cmp.Or(t.Audience, create.Origin(t.URL))
	}
	return t
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
	return nil
}

func (t AppEngineTarget) resolved() Target { return t }

func (t AppEngineTarget) address(suffix string) (string, error) {
	uri := strings.TrimSuffix(t.Path, "/") + "/" + strings.TrimPrefix(suffix, "/")
	if _, err := url.ParseRequestURI(uri); err != nil {
		return "", fmt.Errorf("relative URI %q: %w", uri, err.(*url.Error).Err)
	}
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
