package create

import (
	"fmt"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"golang.org/x/net/http/httpguts"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff/internal/wire"
)

// Limits of the service.
const (
	MaxTask     = 1_048_569       // bytes of the stored task (docs/cloud-tasks.md#8.6)
	MaxHeaders  = 80 << 10        // bytes of all names and values; they must be fewer (docs/cloud-tasks.md#4)
	MaxURL      = 2083            // characters, encoded (docs/cloud-tasks.md#4)
	MaxAhead    = 720 * time.Hour // of the schedule time (docs/cloud-tasks.md#8.4)
	MinDeadline = 15 * time.Second
	MaxDeadline = 30 * time.Minute // HTTP targets (docs/cloud-tasks.md#8.5)

	// MaxDeadlineAppEngine is the longest deadline of App Engine targets.
	MaxDeadlineAppEngine = 24*time.Hour + 15*time.Second
)

// QueueID checks a queue ID (docs/cloud-tasks.md#2).
func QueueID(id string) error {
	if !allowed(id, 100, "-") {
		return fmt.Errorf("queue %q is not 1 to 100 letters, digits and '-'", id)
	}
	return nil
}

// TaskID checks a task ID (docs/cloud-tasks.md#2).
func TaskID(id string) error {
	if !allowed(id, 500, "-_") {
		return fmt.Errorf("name %q is not 1 to 500 letters, digits, '-' and '_'", id)
	}
	return nil
}

func allowed(id string, limit int, also string) bool {
	for i := range len(id) {
		c := id[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte(also, c) < 0 {
			return false
		}
	}
	return id != "" && len(id) <= limit
}

// Deadline checks a dispatch deadline for the kind of target.
func Deadline(d time.Duration, appEngine bool) error {
	target, limit := "HTTP", MaxDeadline
	if appEngine {
		target, limit = "App Engine", MaxDeadlineAppEngine
	}
	if d < MinDeadline || d > limit {
		return fmt.Errorf("deadline %s is outside %s to %s, the range for %s targets", d, MinDeadline, limit, target)
	}
	return nil
}

// URL checks the absolute URL of an HTTP target and returns it parsed.
func URL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, fmt.Errorf("URL %q: %w", raw, err.(*url.Error).Err)
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return nil, fmt.Errorf("URL %q must begin with http:// or https:// and name a host", raw)
	case u.User != nil:
		return nil, fmt.Errorf("URL of host %q holds credentials; use a service account, or a header", u.Host)
	case u.Fragment != "":
		return nil, fmt.Errorf("URL %q has a fragment, which is never sent", raw)
	case len(u.String()) > MaxURL:
		return nil, fmt.Errorf("URL of host %q is %d characters after encoding; the limit is %d", u.Host, len(u.String()), MaxURL)
	}
	return u, nil
}

// Origin is the scheme and authority of a URL that was checked before.
func Origin(address string) string {
	scheme, rest, _ := strings.Cut(address, "://")
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		rest = rest[:end]
	}
	return scheme + "://" + rest
}

// RelativeURI checks the URI of an App Engine target.
func RelativeURI(uri string) error {
	switch {
	case !strings.HasPrefix(uri, "/"):
		return fmt.Errorf("relative URI %q must begin with '/'", uri)
	case strings.ContainsAny(uri, " #") || !utf8.ValidString(uri):
		return fmt.Errorf("relative URI %q holds a space, a fragment or invalid UTF-8", uri)
	case len(uri) > MaxURL:
		return fmt.Errorf("relative URI is %d characters; the limit is %d", len(uri), MaxURL)
	}
	return nil
}

// Header checks a task header and returns its name as the service documents
// names. The value stays out of the error: it may be a credential.
func Header(name, value string) (string, error) {
	switch {
	case !httpguts.ValidHeaderFieldName(name):
		return "", fmt.Errorf("header name %q is not a token (RFC 9110 §5.1)", name)
	case wire.IsReserved(name):
		return "", fmt.Errorf("header %s is set by handoff or by the service", name)
	case !utf8.ValidString(value):
		return "", fmt.Errorf("the value of header %s is not valid UTF-8", name)
	case !httpguts.ValidHeaderFieldValue(value):
		return "", fmt.Errorf("the value of header %s holds a control character", name)
	}
	return textproto.CanonicalMIMEHeaderKey(name), nil
}

// Parts returns the headers and the body of a task of either kind.
func Parts(t *cloudtaskspb.Task) (map[string]string, []byte) {
	if r := t.GetHttpRequest(); r != nil {
		return r.GetHeaders(), r.GetBody()
	}
	return t.GetAppEngineHttpRequest().GetHeaders(), t.GetAppEngineHttpRequest().GetBody()
}

// Size checks the size of a task: its headers, and the whole as the service
// stores it.
func Size(req *cloudtaskspb.CreateTaskRequest) error {
	header, body := Parts(req.GetTask())
	headers := 0
	for name, value := range header {
		headers += len(name) + len(value)
	}
	if headers >= MaxHeaders {
		return fmt.Errorf("headers are %d bytes; they must be under %d", headers, MaxHeaders)
	}
	// Only tasks near the limit are worth the exact count: without their body
	// they are below the limit of headers and 16 KiB of URL, names and times.
	if len(body) <= MaxTask-MaxHeaders-16<<10 {
		return nil
	}
	if stored := StoredSize(req.GetParent(), req.GetTask()); stored > MaxTask {
		return fmt.Errorf("task is %d bytes as stored, %d of them the body; the limit is %d", stored, len(body), MaxTask)
	}
	return nil
}

// StoredSize is the size of a task as the service counts it: with all that it
// adds before it stores the task (docs/cloud-tasks.md#8.6). Where the service's
// choice is not known yet (times, a generated name), it counts the longest form.
func StoredSize(parent string, t *cloudtaskspb.Task) int {
	stored := proto.CloneOf(t)
	if stored.Name == "" {
		stored.Name = parent + "/tasks/01234567890123456789"
	}
	now := timestamppb.New(time.Now())
	stored.CreateTime = &timestamppb.Timestamp{Seconds: now.Seconds}
	if stored.ScheduleTime == nil {
		stored.ScheduleTime = &timestamppb.Timestamp{Seconds: now.Seconds, Nanos: 999_999_000}
	}
	if r := stored.GetHttpRequest(); r != nil {
		if stored.DispatchDeadline == nil {
			stored.DispatchDeadline = durationpb.New(600 * time.Second)
		}
		if r.HttpMethod == cloudtaskspb.HttpMethod_HTTP_METHOD_UNSPECIFIED {
			r.HttpMethod = cloudtaskspb.HttpMethod_POST
		}
		r.Headers = with(r.Headers, "User-Agent", wire.UserAgentHTTP)
	}
	if r := stored.GetAppEngineHttpRequest(); r != nil {
		if r.HttpMethod == cloudtaskspb.HttpMethod_HTTP_METHOD_UNSPECIFIED {
			r.HttpMethod = cloudtaskspb.HttpMethod_POST
		}
		r.Headers = with(r.Headers, "User-Agent", wire.UserAgentAppEngine)
		if len(r.Body) > 0 {
			r.Headers = with(r.Headers, "Content-Length", strconv.Itoa(len(r.Body)))
			if r.Headers["Content-Type"] == "" {
				r.Headers["Content-Type"] = "application/octet-stream"
			}
		}
		r.AppEngineRouting = &cloudtaskspb.AppEngineRouting{Host: host(parent, r.GetAppEngineRouting())}
	}
	return proto.Size(stored)
}

func with(headers map[string]string, name, value string) map[string]string {
	if headers == nil {
		headers = make(map[string]string)
	}
	headers[name] = value
	return headers
}

// host is how the service stores App Engine routing: one string, with a
// region code of two letters in it (docs/cloud-tasks.md#8.6).
func host(parent string, r *cloudtaskspb.AppEngineRouting) string {
	project, _, _ := strings.Cut(strings.TrimPrefix(parent, "projects/"), "/")
	h := project + ".uc.r.appspot.com"
	for _, part := range []string{r.GetService(), r.GetVersion(), r.GetInstance()} {
		if part != "" {
			h = part + "." + h
		}
	}
	return h
}
