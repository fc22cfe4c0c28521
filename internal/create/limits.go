package create

import (
	"errors"
	"fmt"
	"net/textproto"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"golang.org/x/net/http/httpguts"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff/internal/target"
	"github.com/brillconsulting/handoff/internal/wire"
)

// Limits of the service.
const (
	MaxTask     = 1_048_569       // bytes of the stored task (docs/cloud-tasks.md#8.6)
	MaxHeaders  = 80 << 10        // bytes of all names and values; a task must have fewer (docs/cloud-tasks.md#4)
	MaxURL      = 2083            // characters after encoding (docs/cloud-tasks.md#4)
	MaxAhead    = 720 * time.Hour // max time from now to the schedule time (docs/cloud-tasks.md#8.4)
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
	kind, limit := "HTTP", MaxDeadline
	if appEngine {
		kind, limit = "App Engine", MaxDeadlineAppEngine
	}
	if d < MinDeadline || d > limit {
		return fmt.Errorf("deadline %s is outside %s to %s, the range for %s targets", d, MinDeadline, limit, kind)
	}
	return nil
}

// URL checks the absolute URL of an HTTP target and returns it encoded and parsed.
// Its errors quote only scheme and host, because the rest may be secret.
func URL(raw string) (*url.URL, error) {
	scheme, _, ok := strings.Cut(raw, "://")
	if scheme = strings.ToLower(scheme); !ok || scheme != "http" && scheme != "https" {
		return nil, fmt.Errorf("URL%s must begin with http:// or https://", ofHost(raw))
	}
	if _, err := url.Parse(raw); errors.As(err, new(url.EscapeError)) {
		// Parse would encode the percent sign, which may not be what the caller meant.
		return nil, fmt.Errorf("URL%s holds an invalid escape; a percent sign is %%25", ofHost(raw))
	}
	u, err := target.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("URL%s cannot be parsed: %s", ofHost(raw), reasonWithoutURL(err))
	}
	switch {
	case u.User != nil:
		return nil, fmt.Errorf("URL%s holds credentials; use a service account, or a header", ofHost(raw))
	case u.Fragment != "":
		return nil, fmt.Errorf("URL%s has a fragment, which is never sent", ofHost(raw))
	case len(u.String()) > MaxURL:
		return nil, fmt.Errorf("URL%s is %d characters after encoding; the limit is %d", ofHost(raw), len(u.String()), MaxURL)
	}
	return u, nil
}

// ofHost returns " of host" with the scheme and host of a URL that may not parse, and
// nothing that may be secret.
func ofHost(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return " without a scheme"
	}
	rest, _, _ = strings.Cut(rest, "/")
	rest, _, _ = strings.Cut(rest, "?")
	rest, _, _ = strings.Cut(rest, "#")
	rest = rest[strings.LastIndex(rest, "@")+1:]
	if !authority.MatchString(rest) {
		return "" // rest may hold part of a password
	}
	return fmt.Sprintf(" of host %.100q", scheme+"://"+rest)
}

var authority = regexp.MustCompile(`^[\w.-]*(:\d*)?$|^\[[0-9a-fA-F:.]+\](:\d*)?$`)

// reasonWithoutURL returns the reason in an error of [url.Parse], without the parts
// of the URL that the error quotes.
func reasonWithoutURL(err error) string {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if _, ok := errors.AsType[url.InvalidHostError](err); ok {
		return "invalid character in the host"
	}
	reason, _, _ := strings.Cut(err.Error(), "\"")
	return strings.TrimSpace(reason)
}

// RelativeURI checks the URI of an App Engine target. Its errors quote only the path,
// because the query may be secret.
func RelativeURI(uri string) error {
	path, _, _ := strings.Cut(uri, "?")
	switch {
	case !strings.HasPrefix(uri, "/"):
		return fmt.Errorf("relative URI %.100q must begin with '/'", path)
	case strings.ContainsAny(uri, " #") || !utf8.ValidString(uri):
		return fmt.Errorf("relative URI %.100q holds a space, a fragment or invalid UTF-8", path)
	case len(uri) > MaxURL:
		return fmt.Errorf("relative URI is %d characters; the limit is %d", len(uri), MaxURL)
	}
	if _, err := url.ParseRequestURI(uri); err != nil {
		return fmt.Errorf("relative URI %.100q: %s", path, reasonWithoutURL(err))
	}
	return nil
}

// Header checks a task header and returns its name in canonical form. Its errors do
// not quote the value, which may be a credential.
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

// Parts returns the headers and the body of an HTTP or App Engine task.
func Parts(t *cloudtaskspb.Task) (map[string]string, []byte) {
	if r := t.GetHttpRequest(); r != nil {
		return r.GetHeaders(), r.GetBody()
	}
	return t.GetAppEngineHttpRequest().GetHeaders(), t.GetAppEngineHttpRequest().GetBody()
}

// Size checks the size of a task's headers, and that of the whole task as the
// service stores it.
func Size(req *cloudtaskspb.CreateTaskRequest) error {
	header, body := Parts(req.GetTask())
	headers := 0
	for name, value := range header {
		headers += len(name) + len(value)
	}
	if headers >= MaxHeaders {
		return fmt.Errorf("headers are %d bytes; they must be under %d", headers, MaxHeaders)
	}
	// Everything but the body takes less than the limit of the headers and 16 KiB
	// for URL, names and times. Only a task near the limit needs the exact count.
	if len(body) <= MaxTask-MaxHeaders-16<<10 {
		return nil
	}
	if stored := StoredSize(req.GetParent(), req.GetTask()); stored > MaxTask {
		return fmt.Errorf("task is %d bytes as stored, %d of them the body; the limit is %d", stored, len(body), MaxTask)
	}
	return nil
}

// StoredSize returns the size of a task in bytes as the service counts it, including
// what the service adds before it stores the task (docs/cloud-tasks.md#8.6). For
// values that the service has yet to choose, such as times and a generated name, it
// counts the longest form.
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

// host returns App Engine routing as the service stores it: one host name, which
// holds a region code of two letters (docs/cloud-tasks.md#8.6).
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
