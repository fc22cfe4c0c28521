package rows

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// jsonTable is about ProtoJSON and the HTTP status of errors
// (docs/cloud-tasks.md#1.3).
var jsonTable = []Row{
	accepts("lowerCamelCase names", `{"name":%q,"retryConfig":{"maxAttempts":-1}}`, "retryConfig.maxAttempts", float64(-1)),
	accepts("snake_case names", `{"name":%q,"retry_config":{"max_attempts":3,"min_backoff":"2s"}}`, "retryConfig.maxAttempts", float64(3)),
	accepts("an int64 as text", `{"name":%q,"httpTarget":{"uriOverride":{"host":"example.com","port":"8080"}}}`, "httpTarget.uriOverride.port", "8080"),
	accepts("an int64 as a number, and shows it as text", `{"name":%q,"httpTarget":{"uriOverride":{"host":"example.com","port":8080}}}`, "httpTarget.uriOverride.port", "8080"),
	accepts("an int32 as text", `{"name":%q,"retryConfig":{"maxAttempts":"5"}}`, "retryConfig.maxAttempts", float64(5)),
	accepts("a double", `{"name":%q,"rateLimits":{"maxDispatchesPerSecond":7.5}}`, "rateLimits.maxDispatchesPerSecond", 7.5),
	accepts("a double as text", `{"name":%q,"rateLimits":{"maxDispatchesPerSecond":"7.5"}}`, "rateLimits.maxDispatchesPerSecond", 7.5),
	accepts("an enum by its name", `{"name":%q,"httpTarget":{"httpMethod":"PUT"}}`, "httpTarget.httpMethod", "PUT"),
	accepts("an enum by its number", `{"name":%q,"httpTarget":{"httpMethod":4}}`, "httpTarget.httpMethod", "PUT"),
	accepts("null for unset", `{"name":%q,"retryConfig":null}`, "retryConfig.maxAttempts", float64(100)),
	accepts("a duration of whole seconds", `{"name":%q,"retryConfig":{"maxBackoff":"10s"}}`, "retryConfig.maxBackoff", "10s"),
	accepts("a duration with a fraction, shown with three digits", `{"name":%q,"retryConfig":{"minBackoff":"0.100s"}}`, "retryConfig.minBackoff", "0.100s"),
	{"1.3", Documented, "a field that is unset is left out", func(b *fixture) {
		b.plain()
		b.equal(field(b, createJSON(b, `{"name":%q}`), "httpTarget"), nil)
	}},
	{"1.3", Documented, "times are RFC 3339 in UTC", func(b *fixture) {
		b.plain()
		text := b.status(http.StatusOK, http.MethodPost, "/v2/"+b.pausedQueue()+"/tasks", `{"task":{"httpRequest":{"url":"https://example.com/"}}}`)
		for _, name := range []string{"createTime", "scheduleTime"} {
			at, _ := field(b, text, name).(string)
			if _, err := time.Parse(time.RFC3339Nano, at); err != nil || !strings.HasSuffix(at, "Z") {
				b.Fatalf("%s is %q", name, at)
			}
		}
	}},
	{"1.3", Documented, "a time may be sent with an offset", func(b *fixture) {
		b.plain()
		at := time.Now().Add(time.Hour).Truncate(time.Second)
		text := b.status(http.StatusOK, http.MethodPost, "/v2/"+b.pausedQueue()+"/tasks",
			fmt.Sprintf(`{"task":{"scheduleTime":%q,"httpRequest":{"url":"https://example.com/"}}}`, at.In(time.FixedZone("", 2*3600)).Format(time.RFC3339)))
		b.equal(field(b, text, "scheduleTime"), at.UTC().Format(time.RFC3339))
	}},
	{"1.3", Documented, "bytes are base64", func(b *fixture) {
		b.plain()
		text := b.status(http.StatusOK, http.MethodPost, "/v2/"+b.pausedQueue()+"/tasks", `{"task":{"httpRequest":{"url":"https://example.com/","body":"+/8="}},"responseView":"FULL"}`)
		b.equal(field(b, text, "httpRequest.body"), "+/8=")
	}},
	{"1.3", Documented, "base64 of the URL alphabet is accepted", func(b *fixture) {
		b.plain()
		text := b.status(http.StatusOK, http.MethodPost, "/v2/"+b.pausedQueue()+"/tasks", `{"task":{"httpRequest":{"url":"https://example.com/","body":"-_8="}},"responseView":"FULL"}`)
		b.equal(field(b, text, "httpRequest.body"), "+/8=")
	}},
	{"1.3", Documented, "updateMask is a list of camelCase paths", func(b *fixture) {
		b.plain()
		name := b.queue()
		b.status(http.StatusOK, http.MethodPatch, "/v2/"+name+"?updateMask=retryConfig.maxAttempts,rateLimits.maxConcurrentDispatches",
			`{"retryConfig":{"maxAttempts":7,"maxDoublings":1},"rateLimits":{"maxConcurrentDispatches":3}}`)
		got := b.getQueue(name)
		b.equal(got.GetRetryConfig().GetMaxAttempts(), int32(7))
		b.equal(got.GetRetryConfig().GetMaxDoublings(), int32(16))
		b.equal(got.GetRateLimits().GetMaxConcurrentDispatches(), int32(3))
	}},
}

func jsonRows() []Row {
	rows := slices.Clone(jsonTable)
	for _, e := range []struct {
		code   string
		status int
		send   func(b *fixture) (method, path, body string)
	}{
		{"INVALID_ARGUMENT", 400, func(b *fixture) (string, string, string) {
			return http.MethodPost, "/v2/" + b.queue() + "/tasks", `{"task":{"httpRequest":{}}}`
		}},
		{"NOT_FOUND", 404, func(b *fixture) (string, string, string) { return http.MethodGet, "/v2/" + b.freshName(), "" }},
		{"ALREADY_EXISTS", 409, func(b *fixture) (string, string, string) {
			return http.MethodPost, "/v2/" + b.parent + "/queues", fmt.Sprintf(`{"name":%q}`, b.queue())
		}},
		{"FAILED_PRECONDITION", 400, func(b *fixture) (string, string, string) {
			name := b.queue()
			b.deleteQueue(name)
			return http.MethodPost, "/v2/" + b.parent + "/queues", fmt.Sprintf(`{"name":%q}`, name)
		}},
	} {
		rows = append(rows, Row{"1.3", Documented, fmt.Sprintf("%s is HTTP %d, and the body says so", e.code, e.status), func(b *fixture) {
			b.plain()
			method, path, body := e.send(b)
			text := b.status(e.status, method, path, body)
			b.equal(field(b, text, "error.code"), float64(e.status))
			b.equal(field(b, text, "error.status"), e.code)
			if message, _ := field(b, text, "error.message").(string); message == "" {
				b.Fatalf("no message: %s", brief(text))
			}
		}})
	}
	return append(rows, Row{"1.3", Documented, "a response says that it is JSON", func(b *fixture) {
		b.plain()
		if kind := b.contentType("/v2/" + b.queue()); !regexp.MustCompile(`^application/json(;|$)`).MatchString(kind) {
			b.Fatalf("Content-Type %q", kind)
		}
	}})
}

func (b *fixture) contentType(path string) string {
	b.Helper()
	r, err := http.NewRequestWithContext(b.ctx, http.MethodGet, b.base+path, http.NoBody)
	b.ok(err)
	resp, err := b.http.Do(r)
	b.ok(err)
	defer resp.Body.Close()
	return resp.Header.Get("Content-Type")
}

// createJSON creates a queue from JSON, with its name in place of %q, and returns it.
func createJSON(b *fixture, body string) string {
	b.Helper()
	name := b.freshName()
	b.status(http.StatusOK, http.MethodPost, "/v2/"+b.parent+"/queues", fmt.Sprintf(body, name))
	return b.status(http.StatusOK, http.MethodGet, "/v2/"+name, "")
}

// accepts returns a row for JSON that creates a queue whose field has a value.
func accepts(what, body, name string, want any) Row {
	return Row{"1.3", Documented, "JSON: " + what, func(b *fixture) {
		b.plain()
		b.equal(field(b, createJSON(b, body), name), want)
	}}
}
