package wire_test

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/wire"
)

func TestReadStampRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		values []string
	}{
		{"Handoff-Id", []string{""}},
		{"Handoff-Id", []string{"a b"}},
		{"Handoff-Id", []string{"a", "a"}},
		{"Handoff-Id", []string{strings.Repeat("a", 129)}},
		{"Handoff-Key", []string{"\xff"}},
		{"Handoff-Key", []string{"a", "b"}},
		{"Handoff-Enqueued", []string{"yesterday"}},
		{"Handoff-Enqueued", []string{"1", "1"}},
		{"Handoff-Expires", []string{"-1"}},
		{"Handoff-Expires", []string{"1.5"}},
		{"Handoff-Expires", []string{"9000000000001"}},
		{"Handoff-Expires", []string{strings.Repeat("9", 1<<16)}},
		{"Handoff-Deadline", []string{"10m"}},
		{"Handoff-Deadline", []string{"-5"}},
		{"Handoff-Max-Attempts", []string{"-2"}},
		{"Handoff-Max-Attempts", []string{"-1", "-1"}},
		{"Handoff-Max-Attempts", []string{"many"}},
		{"Handoff-Generation", []string{"-1"}},
		{"Handoff-Generation", []string{"99999999999"}},
		{"Handoff-Window", []string{"0x10"}},
		{"Handoff-Scheduled", []string{"now"}},
		{"Handoff-Kind", []string{"ключ"}},
		{"Handoff-Kind", []string{strings.Repeat("a", 65)}},
		{"Handoff-Target", []string{"https://h/\r\n"}},
		{"Handoff-Target", []string{strings.Repeat("a", 2084)}},
		{"Handoff-Headers", []string{"x-lower"}},
		{"Handoff-Headers", []string{"X-A,X-B"}},
		{"Handoff-Headers", []string{"X-A, , X-B"}},
		{"Handoff-Headers", []string{"X A"}},
		{"Handoff-Headers", []string{strings.Repeat("A", 8193)}},
		{"Handoff-Backoff", []string{"1 2"}},
		{"Handoff-Backoff", []string{"1 2 x"}},
		{"Handoff-Backoff", []string{"-1 2 3"}},
		{"Handoff-Backoff", []string{"1 99999999999 3"}},
		{"Handoff-Backoff", []string{"1s 2s 3"}},
		{"Handoff-Redrives", []string{"-1"}},
		{"Handoff-Snoozes", []string{"1.5"}},
		{"Handoff-Attempts", []string{"1 2"}},
		{"Handoff-Attempts", []string{"1 -2 3"}},
		{"Handoff-Attempts", []string{"1 2 -3"}},
		{"Handoff-Attempts", []string{"1 99999999999 3"}},
		{"Handoff-Version", []string{"0"}},
		{"Handoff-Version", []string{"2"}},
		{"Handoff-Version", []string{"1", "1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := wire.ReadStamp(http.Header{tc.name: tc.values})
			assert.ErrorContains(t, err, tc.name)
		})
	}
}

// ReadStamp refuses a stamp of another version, and one without a version or an ID.
func TestReadStampVersion(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		header http.Header
		says   string // in the error; empty: no error
	}{
		"no stamp":          {http.Header{"X-A": {"b"}}, ""},
		"the least":         {http.Header{"Handoff-Version": {"1"}, "Handoff-Id": {"a"}}, ""},
		"without a version": {http.Header{"Handoff-Id": {"a"}}, "Handoff-Version is missing"},
		"of an old commit":  {http.Header{"Handoff-Id": {"a"}, "Handoff-Expires": {"1"}, "Handoff-Redriven": {"b.0"}}, "Handoff-Version is missing"},
		"a later version":   {http.Header{"Handoff-Version": {"2"}, "Handoff-Id": {"a"}}, "Handoff-Version is not 1"},
		"without an ID":     {http.Header{"Handoff-Version": {"1"}, "Handoff-Expires": {"1"}}, "Handoff-Id is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := wire.ReadStamp(tc.header)
			if tc.says == "" {
				assert.NoError(t, err)
				return
			}
			assert.ErrorContains(t, err, tc.says)
		})
	}
}

// full returns a stamp with every field set.
func full() wire.Stamp {
	return wire.Stamp{
		ID: "id", Kind: "a.kind", Key: "key", Target: "https://w.example/tasks", Headers: []string{"Traceparent", "X-Tenant"},
		Enqueued: time.UnixMilli(1), Scheduled: time.UnixMilli(4), Expires: time.UnixMilli(2), Deadline: time.Second, Window: time.Hour,
		MaxAttempts: -1, Backoff: wire.Backoff{Min: 100*time.Millisecond + 1, Max: time.Hour, Doublings: 16},
		Redrives: 2, Generation: 3, Snoozes: 1, Attempts: wire.Attempts{Earlier: 1, Counted: 2, First: 3},
	}
}

func TestStampRoundTrip(t *testing.T) {
	t.Parallel()
	for i, all := 0, reflect.ValueOf(full()); i < all.NumField(); i++ {
		if all.Field(i).IsZero() {
			t.Errorf("full does not set %s, so no test covers it", all.Type().Field(i).Name)
		}
	}
	for _, want := range []wire.Stamp{{}, full(), {ID: "a", MaxAttempts: 1}, {ID: "a", Backoff: wire.Backoff{Max: time.Second}}} {
		h := http.Header{}
		want.Write(h.Set)
		got, err := wire.ReadStamp(h)
		assert.NoError(t, err)
		assert.Equal(t, got, want)
	}
}

func FuzzReadStamp(f *testing.F) {
	names, values := []string{}, []string{}
	full().Write(func(name, value string) { names, values = append(names, name), append(values, value) })
	f.Add(strings.Join(values, "\n"))
	f.Add(strings.Repeat("-1\n", len(names)))
	f.Add("1\n\xff\na b\n-1\n1e3\n9223372036854775807\n-2\n99999999999\nx\n0\n/\nключ")
	f.Fuzz(func(t *testing.T, text string) {
		header := http.Header{}
		for i, value := range strings.SplitN(text, "\n", len(names)) {
			if value != "" {
				header[names[i]] = []string{value}
			}
		}
		s, err := wire.ReadStamp(header)
		if err != nil {
			return
		}
		again := http.Header{}
		s.Write(again.Set)
		back, err := wire.ReadStamp(again)
		assert.NoError(t, err)
		assert.Equal(t, back, s)
	})
}

// Headers that a gateway adds are not the producer's. No letter holds a credential.
func TestProducerHeader(t *testing.T) {
	t.Parallel()
	h := http.Header{
		"X-Tenant": {"acme"}, "Authorization": {"Basic c2VjcmV0"}, "Content-Type": {"application/json"}, "Content-Encoding": {"gzip"},
		"X-Goog-Iap-Jwt-Assertion": {"jwt"}, "Proxy-Authorization": {"p"}, "X-Forwarded-Access-Token": {"t"}, "X-Brand-New-Gateway": {"g"},
		"Cookie": {"c"}, "X-Forwarded-For": {"1.2.3.4"}, "User-Agent": {"Google-Cloud-Tasks"}, "X-Cloudtasks-Taskname": {"n"}, "Handoff-Id": {"id"},
	}
	stamp := wire.Stamp{ID: "id", Headers: []string{"Authorization", "Host", "X-Absent", "X-Tenant"}}
	assert.Equal(t, wire.ProducerHeader(h, stamp), http.Header{"X-Tenant": {"acme"}, "Authorization": {"Basic c2VjcmV0"}, "Content-Type": {"application/json"}})
	assert.Equal(t, wire.OwnHeader(h, stamp), http.Header{"X-Tenant": {"acme"}, "Content-Type": {"application/json"}})
	letter := wire.LetterHeader(h, stamp)
	assert.Equal(t, letter, http.Header{"X-Tenant": {"acme"}, "Content-Type": {"application/json"}, "Handoff-Id": {"id"}})
	assert.Equal(t, wire.Withheld(letter, stamp), []string{"Authorization"})
	assert.Equal(t, len(wire.Withheld(h, stamp)), 0)

	// Without a stamp, all headers count as the producer's except those that others
	// are known to add.
	assert.Equal(t, wire.LetterHeader(h, wire.Stamp{}), http.Header{
		"X-Tenant": {"acme"}, "X-Brand-New-Gateway": {"g"}, "Content-Type": {"application/json"}, "Handoff-Id": {"id"},
	})
	for _, name := range []string{"X-Original-Authorization", "Cf-Access-Jwt-Assertion", "X-Ms-Client-Principal", "X-Ssl-Client-Cert", "X-Api-Key", "X-Auth-Token"} {
		assert.Equal(t, len(wire.LetterHeader(http.Header{name: {"secret"}}, wire.Stamp{})), 0)
	}
	letter["X-Tenant"][0] = "changed"
	assert.Equal(t, h["X-Tenant"][0], "acme")
}

func TestTargetURL(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ proto, audience, want string }{
		"plain":                 {"", "", "http://w.example/tasks/a?b=c"},
		"behind a proxy":        {"https", "", "https://w.example/tasks/a?b=c"},
		"by the token":          {"", "https://w.example", "https://w.example/tasks/a?b=c"},
		"another's token":       {"", "https://elsewhere.example", "http://w.example/tasks/a?b=c"},
		"a name that is longer": {"", "https://w.example.com", "http://w.example/tasks/a?b=c"},
		"an audience's path":    {"", "https://w.example/tasks", "https://w.example/tasks/a?b=c"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://w.example/tasks/a?b=c", nil)
			assert.NoError(t, err)
			req.Header.Set("X-Forwarded-Proto", tc.proto)
			assert.Equal(t, wire.TargetURL(req, tc.audience), tc.want)
		})
	}
}
