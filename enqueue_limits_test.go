package handoff_test

import (
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/create"
)

// Every limit of the service is checked before the call, and the error names
// the field, the value and the limit.
func TestLimits(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 3000)
	for name, tc := range map[string]struct {
		request handoff.Request
		opts    []handoff.Option
		says    []string // empty if it is within the limit
	}{
		"30 days ahead":                 {opts: []handoff.Option{handoff.In(720 * time.Hour)}},
		"over 30 days ahead":            {opts: []handoff.Option{handoff.In(720*time.Hour + 1)}, says: []string{"720h0m0s", "30 days"}},
		"an absolute time over 30 days": {opts: []handoff.Option{handoff.At(time.Now().Add(721 * time.Hour))}, says: []string{"due at", "ahead; the limit is 720h0m0s"}},
		"deadline of 15 s":              {opts: []handoff.Option{handoff.Deadline(15 * time.Second)}},
		"deadline under 15 s":           {opts: []handoff.Option{handoff.Deadline(15*time.Second - 1)}, says: []string{"deadline 14.999999999s", "15s to 30m0s", "HTTP"}},
		"deadline of 30 min":            {opts: []handoff.Option{handoff.Deadline(30 * time.Minute)}},
		"deadline over 30 min":          {opts: []handoff.Option{handoff.Deadline(30*time.Minute + 1)}, says: []string{"deadline 30m0.000000001s", "15s to 30m0s"}},
		"App Engine, 24 h 15 s": {
			request: handoff.Request{AppEngine: &handoff.AppEngineTarget{}, URL: "/"},
			opts:    []handoff.Option{handoff.Deadline(24*time.Hour + 15*time.Second)},
		},
		"App Engine, over 24 h 15 s": {
			request: handoff.Request{AppEngine: &handoff.AppEngineTarget{}, URL: "/"},
			opts:    []handoff.Option{handoff.Deadline(24*time.Hour + 16*time.Second)},
			says:    []string{"24h0m16s", "24h0m15s", "App Engine"},
		},
		"URL of 2083": {request: handoff.Request{URL: "https://h/" + long[:2073]}},
		"URL of 2084": {request: handoff.Request{URL: "https://h/" + long[:2074]}, says: []string{"URL", "2084", "2083"}},
		"URL over only when encoded": {
			request: handoff.Request{URL: "https://h/" + strings.Repeat("é", 1000)},
			says:    []string{"6010 characters after encoding", "2083"},
		},
		"relative URI of 2083": {request: handoff.Request{AppEngine: &handoff.AppEngineTarget{}, URL: "/" + long[:2082]}},
		"relative URI of 2084": {request: handoff.Request{AppEngine: &handoff.AppEngineTarget{}, URL: "/" + long[:2083]}, says: []string{"relative URI", "2084", "2083"}},
		"headers of 70 kB":     {opts: []handoff.Option{handoff.Header("X-A", strings.Repeat("a", 70_000))}},
		"headers of 82 kB":     {opts: []handoff.Option{handoff.Header("X-A", strings.Repeat("a", 41_000)), handoff.Header("X-B", strings.Repeat("b", 41_000))}, says: []string{"headers are 82", "81920"}},
		"names of headers of 9 kB": {
			opts: []handoff.Option{handoff.Header("X-"+long, ""), handoff.Header("Y-"+long, ""), handoff.Header("Z-"+long, "")},
			says: []string{"no worker could read the task", "Handoff-Headers", "8192"},
		},
		"queue ID of 100": {opts: []handoff.Option{handoff.OnQueue(long[:100])}},
		"queue ID of 101": {opts: []handoff.Option{handoff.OnQueue(long[:101])}, says: []string{"OnQueue", "100"}},
		"task ID of 500":  {opts: []handoff.Option{handoff.Name(long[:500])}},
		"task ID of 501":  {opts: []handoff.Option{handoff.Name(long[:501])}, says: []string{"Name", "500"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := new(taskServer)
			client := server.client(t, nil)
			if tc.request.URL == "" {
				tc.request.URL = "https://receiver.example.com/hook"
			}
			_, err := client.EnqueueRequest(t.Context(), tc.request, tc.opts...)
			if tc.says == nil {
				assert.NoError(t, err)
				assert.Equal(t, len(server.taken()), 1)
				return
			}
			assert.ErrorContains(t, err, append(tc.says, "handoff: ")...)
			creates, _, _ := server.counts()
			assert.Equal(t, creates, 0)
			if len(err.Error()) > 1000 {
				t.Errorf("the error is %d bytes", len(err.Error()))
			}
		})
	}
}

// The limit applies to the task as the service stores it. The test finds the
// largest body that fits, and checks that one byte more does not.
func TestLimitOfTheStoredTask(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]handoff.Request{
		"HTTP":       {URL: "https://receiver.example.com/hook"},
		"App Engine": {AppEngine: &handoff.AppEngineTarget{Service: "worker"}, URL: "/hook"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := new(taskServer)
			client := server.client(t, nil)
			at := handoff.At(time.Now().Add(time.Hour)) // the same for all, because its encoded length varies
			fits, over := 1_000_000, 1_100_000
			var last error
			for over-fits > 1 {
				middle := (fits + over) / 2
				request.Body = make([]byte, middle)
				if _, err := client.EnqueueRequest(t.Context(), request, at); err != nil {
					over, last = middle, err
				} else {
					fits = middle
				}
			}
			assert.ErrorContains(t, last, "bytes as stored", "the limit is 1048569")
			for _, task := range server.taken() {
				if _, body := create.Parts(task); len(body) == fits {
					stored := create.StoredSize("projects/p/locations/l/queues/q", task)
					assert.Equal(t, stored, create.MaxTask)
					// The service adds fields, but not many bytes.
					if sent := proto.Size(task); stored-sent < 20 || stored-sent > 200 {
						t.Errorf("%d bytes sent are counted as %d", sent, stored)
					}
				}
			}
		})
	}
}

type odd struct{ kind string }

func (o odd) Kind() string { return o.kind }

type noQueue struct{}

func (noQueue) Kind() string { return "no-queue" }

type unmarshalable struct{ C chan int }

func (unmarshalable) Kind() string { return "unmarshalable" }

type infinite struct{ F float64 }

func (infinite) Kind() string { return "infinite" }

type cyclic struct{ Next *cyclic }

func (cyclic) Kind() string { return "cyclic" }

type checked struct{ Age int }

func (checked) Kind() string { return "checked" }
func (c checked) Validate() error {
	if c.Age < 0 {
		return errTooYoung
	}
	return nil
}

var errTooYoung = errors.New("age is negative")

type badPolicy struct{}

func (badPolicy) Kind() string { return "bad-policy" }
func (badPolicy) Policy() handoff.Policy {
	return handoff.Policy{Queue: "a_b", TTL: -time.Second, Deadline: time.Hour, Retry: handoff.Retry{MaxAttempts: -2, MinBackoff: 2 * time.Hour, MaxDoublings: -7}}
}

func TestEnqueueBadInput(t *testing.T) {
	t.Parallel()
	ring := &cyclic{}
	ring.Next = ring
	opts := func(o ...handoff.Option) []handoff.Option { return o }
	for name, tc := range map[string]struct {
		payload handoff.Payload
		opts    []handoff.Option
		says    []string
		is      error
	}{
		"nil":                         {payload: nil, says: []string{"payload is nil"}},
		"nil pointer":                 {payload: (*order)(nil), says: []string{"payload is nil", "*handoff_test.order"}},
		"kind with capitals":          {payload: odd{"Bad"}, says: []string{`kind "Bad"`, "does not match"}},
		"kind with a slash":           {payload: odd{"a/b"}, says: []string{`kind "a/b"`}},
		"empty kind":                  {payload: odd{""}, says: []string{`kind ""`}},
		"kind too long":               {payload: odd{strings.Repeat("a", 65)}, says: []string{"does not match"}},
		"no queue":                    {payload: noQueue{}, says: []string{"no-queue", "no queue", "OnQueue"}},
		"a channel":                   {payload: unmarshalable{}, opts: opts(handoff.OnQueue("q")), says: []string{"does not marshal", "chan int"}},
		"infinity":                    {payload: infinite{math.Inf(1)}, opts: opts(handoff.OnQueue("q")), says: []string{"does not marshal"}},
		"a cycle":                     {payload: ring, opts: opts(handoff.OnQueue("q")), says: []string{"does not marshal", "cycle"}},
		"Validate":                    {payload: checked{-1}, opts: opts(handoff.OnQueue("q")), says: []string{"checked", "invalid"}, is: errTooYoung},
		"empty IdempotencyKey":        {payload: order{}, says: []string{"IdempotencyKey is empty"}},
		"IdempotencyKey and Name":     {payload: order{ID: "1"}, opts: opts(handoff.Name("n")), says: []string{"IdempotencyKey", "Name"}},
		"Key and Name":                {payload: job{}, opts: opts(handoff.Key("k"), handoff.Name("n")), says: []string{"Key and Name"}},
		"empty Key":                   {payload: job{}, opts: opts(handoff.Key("")), says: []string{"Key is empty"}},
		"empty Name":                  {payload: job{}, opts: opts(handoff.Name("")), says: []string{`name ""`}},
		"Name with a slash":           {payload: job{}, opts: opts(handoff.Name("a/b")), says: []string{`name "a/b"`}},
		"queue with an underscore":    {payload: job{}, opts: opts(handoff.OnQueue("a_b")), says: []string{`queue "a_b"`}},
		"empty queue":                 {payload: job{}, opts: opts(handoff.OnQueue("")), says: []string{`queue ""`}},
		"In zero":                     {payload: job{}, opts: opts(handoff.In(0)), says: []string{"In(0s)", "not positive"}},
		"In negative":                 {payload: job{}, opts: opts(handoff.In(-time.Second)), says: []string{"In(-1s)"}},
		"At in the past":              {payload: job{}, opts: opts(handoff.At(time.Now().Add(-time.Hour))), says: []string{"in the past", "1h0m"}},
		"At the zero time":            {payload: job{}, opts: opts(handoff.At(time.Time{})), says: []string{"zero time"}},
		"In and At":                   {payload: job{}, opts: opts(handoff.In(1), handoff.At(time.Now().Add(time.Hour))), says: []string{"In and At"}},
		"beyond 30 days":              {payload: job{}, opts: opts(handoff.In(31 * 24 * time.Hour)), says: []string{"744h0m0s", "720h0m0s"}},
		"Deadline zero":               {payload: job{}, opts: opts(handoff.Deadline(0)), says: []string{"Deadline(0s)"}},
		"Deadline negative":           {payload: job{}, opts: opts(handoff.Deadline(-1)), says: []string{"Deadline(-1ns)"}},
		"Deadline too long":           {payload: job{}, opts: opts(handoff.Deadline(time.Hour)), says: []string{"deadline 1h0m0s", "30m0s"}},
		"TTL zero":                    {payload: job{}, opts: opts(handoff.TTL(0)), says: []string{"TTL(0s)", "NoTTL"}},
		"TTL negative":                {payload: job{}, opts: opts(handoff.TTL(-time.Second)), says: []string{"TTL(-1s)"}},
		"Every without a key":         {payload: job{}, opts: opts(handoff.Every(time.Hour)), says: []string{"Every needs a Key"}},
		"Every zero":                  {payload: job{}, opts: opts(handoff.Every(0), handoff.Key("k")), says: []string{"Every(0s)"}},
		"header with invalid UTF-8":   {payload: job{}, opts: opts(handoff.Header("X-A", "secret\xff")), says: []string{"X-A", "UTF-8"}},
		"header with a line break":    {payload: job{}, opts: opts(handoff.Header("X-A", "secret\r\nX-Evil: 1")), says: []string{"X-A", "control"}},
		"header without a name":       {payload: job{}, opts: opts(handoff.Header("", "secret")), says: []string{`header name ""`}},
		"header name with a space":    {payload: job{}, opts: opts(handoff.Header("X A", "secret")), says: []string{`"X A"`}},
		"the service's header":        {payload: job{}, opts: opts(handoff.Header("x-cloudtasks-queuename", "secret")), says: []string{"x-cloudtasks-queuename"}},
		"our header":                  {payload: job{}, opts: opts(handoff.Header("handoff-id", "secret")), says: []string{"handoff-id"}},
		"Host":                        {payload: job{}, opts: opts(handoff.Header("host", "secret")), says: []string{"host"}},
		"Content-Type of a payload":   {payload: job{}, opts: opts(handoff.Header("content-type", "secret")), says: []string{"Content-Type", "EnqueueRequest"}},
		"Authorization with a token":  {payload: job{}, opts: opts(handoff.Header("Authorization", "secret")), says: []string{"Authorization", "replaced"}},
		"two problems in the options": {payload: job{}, opts: opts(handoff.In(0), handoff.OnQueue("_")), says: []string{"In(0s)", `queue "_"`}},
		"a bad Policy, all of it": {payload: badPolicy{}, says: []string{
			"Queue", `"a_b"`, "TTL is -1s", "Deadline", "1h0m0s", "MaxAttempts is -2", "MinBackoff is 2h0m0s", "MaxDoublings is -7"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := new(taskServer)
			client := server.client(t, func(c *handoff.ClientConfig) {
				if _, ok := tc.payload.(noQueue); ok {
					c.Policy.Queue = ""
				}
			})
			_, err := client.Enqueue(t.Context(), tc.payload, tc.opts...)
			assert.ErrorContains(t, err, tc.says...)
			if tc.is != nil {
				assert.ErrorIs(t, err, tc.is)
			}
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if len(tc.says) < 5 && !strings.HasPrefix(line, "handoff: ") {
					t.Errorf("does not begin with the package's name: %s", line)
				}
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error shows a header's value: %v", err)
			}
			creates, _, _ := server.counts()
			assert.Equal(t, creates, 0)
		})
	}
}

func TestEnqueueKindMustBeConstant(t *testing.T) {
	t.Parallel()
	client := new(taskServer).client(t, nil)
	_, err := client.Enqueue(t.Context(), odd{"one"})
	assert.NoError(t, err)
	_, err = client.Enqueue(t.Context(), odd{"two"})
	assert.ErrorContains(t, err, "handoff_test.odd", `"two"`, `"one"`, "constant")
}

func TestNewClientBadConfig(t *testing.T) {
	t.Parallel()
	_, err := handoff.NewClient(t.Context(), handoff.ClientConfig{})
	assert.ErrorContains(t, err, "ClientConfig.Project", "ClientConfig.Location", "ClientConfig.Target")
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if !strings.HasPrefix(line, "handoff: ClientConfig.") {
			t.Errorf("error %q", line)
		}
	}
	for name, tc := range map[string]struct {
		target handoff.Target
		says   []string
	}{
		"no URL":              {handoff.HTTPTarget{}, []string{"Target.URL", "http://", "ServiceAccount is empty", "DangerouslySendUnsigned"}},
		"another scheme":      {handoff.HTTPTarget{URL: "ftp://h", ServiceAccount: "a@b"}, []string{"Target.URL", `"ftp://h"`}},
		"no host":             {handoff.HTTPTarget{URL: "https:///tasks", ServiceAccount: "a@b"}, []string{"Target.URL", "names no host"}},
		"not a URL":           {handoff.HTTPTarget{URL: "https://h:port/", ServiceAccount: "a@b"}, []string{"Target.URL", "port"}},
		"a query":             {handoff.HTTPTarget{URL: "https://h/?k=secret", ServiceAccount: "a@b"}, []string{"Target.URL", `"h"`, "query"}},
		"a token over http":   {handoff.HTTPTarget{URL: "http://h.example/secret", ServiceAccount: "a@b"}, []string{"Target.URL", `"h.example"`, "https only"}},
		"a query, App Engine": {handoff.AppEngineTarget{Path: "/a?k=secret"}, []string{"Target.Path", "query"}},
		"credentials":         {handoff.HTTPTarget{URL: "https://u:secret@h/", ServiceAccount: "a@b"}, []string{"Target.URL", "credentials"}},
		"a fragment":          {handoff.HTTPTarget{URL: "https://h/#f", ServiceAccount: "a@b"}, []string{"fragment"}},
		"not an email":        {handoff.HTTPTarget{URL: "https://h/", ServiceAccount: "ab"}, []string{`ServiceAccount is "ab"`}},
		"both":                {handoff.HTTPTarget{URL: "https://h/", ServiceAccount: "a@b", DangerouslySendUnsigned: true}, []string{"both set"}},
		"audience for nobody": {handoff.HTTPTarget{URL: "https://h/", Audience: "x", DangerouslySendUnsigned: true}, []string{"Audience"}},
		"App Engine, ASCII":   {handoff.AppEngineTarget{Path: "/tâches"}, []string{"Target.Path", "ASCII", "escape it"}},
		"App Engine path":     {handoff.AppEngineTarget{Path: "tasks"}, []string{"Target.Path", `"tasks"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := handoff.NewClient(t.Context(), handoff.ClientConfig{Project: "p", Location: "l", Target: tc.target})
			assert.ErrorContains(t, err, tc.says...)
			if strings.Contains(err.Error(), "secret") {
				t.Error(err)
			}
		})
	}
	_, err = handoff.NewClient(t.Context(), handoff.ClientConfig{
		Project: "a/b", Location: "", Target: handoff.HTTPTarget{URL: "x"}, Policy: handoff.Policy{TTL: -5},
	})
	assert.ErrorContains(t, err, `Project is "a/b"`, "Location", "Target.URL", "Policy.TTL")
}

func TestNewClientEmulatorVariable(t *testing.T) {
	config := handoff.ClientConfig{Project: "p", Location: "l", Target: handoff.AppEngineTarget{}}
	t.Setenv("CLOUD_TASKS_EMULATOR_HOST", "http://127.0.0.1:8123")
	_, err := handoff.NewClient(t.Context(), config)
	assert.ErrorContains(t, err, "CLOUD_TASKS_EMULATOR_HOST", "host:port")
	t.Setenv("CLOUD_TASKS_EMULATOR_HOST", "127.0.0.1:8123")
	client, err := handoff.NewClient(t.Context(), config)
	assert.NoError(t, err)
	assert.NoError(t, client.Close())
}

func TestEnqueueRequestBadInput(t *testing.T) {
	t.Parallel()
	const hook = "https://receiver.example.com/hook"
	for name, tc := range map[string]struct {
		request handoff.Request
		opts    []handoff.Option
		says    []string
	}{
		"no URL":               {request: handoff.Request{}, says: []string{"Request.URL"}},
		"relative URL":         {request: handoff.Request{URL: "/hook"}, says: []string{"Request.URL", "without a scheme"}},
		"unknown method":       {request: handoff.Request{URL: hook, Method: "BREW"}, says: []string{"Request.Method", "BREW"}},
		"lower-case method":    {request: handoff.Request{URL: hook, Method: "get"}, says: []string{"Request.Method"}},
		"unspecified method":   {request: handoff.Request{URL: hook, Method: "HTTP_METHOD_UNSPECIFIED"}, says: []string{"Request.Method"}},
		"GET with a body":      {request: handoff.Request{URL: hook, Method: http.MethodGet, Body: []byte("x")}, says: []string{"Request.Body", "GET"}},
		"two tokens":           {request: handoff.Request{URL: hook, ServiceAccount: "a@b", Audience: "x", Scope: "y"}, says: []string{"Audience", "Scope"}},
		"scope without anyone": {request: handoff.Request{URL: hook, Scope: "y"}, says: []string{"ServiceAccount"}},
		"token and header":     {request: handoff.Request{URL: hook, ServiceAccount: "a@b", Header: http.Header{"Authorization": {"Bearer x"}}}, says: []string{"Authorization"}},
		"reserved header":      {request: handoff.Request{URL: hook, Header: http.Header{"X-Appengine-Queuename": {"x"}}}, says: []string{"Request.Header", "X-Appengine-Queuename"}},
		"bad header value":     {request: handoff.Request{URL: hook, Header: http.Header{"A": {"b", "c\n"}}}, says: []string{"Request.Header", "A"}},
		"App Engine, absolute": {request: handoff.Request{URL: hook, AppEngine: &handoff.AppEngineTarget{}}, says: []string{"Request.URL", "'/'"}},
		"App Engine, a space":  {request: handoff.Request{URL: "/a b", AppEngine: &handoff.AppEngineTarget{}}, says: []string{"space"}},
		"App Engine, PATCH":    {request: handoff.Request{URL: "/", Method: "PATCH", Body: []byte("x"), AppEngine: &handoff.AppEngineTarget{}}, says: []string{"PATCH", "POST, PUT carry"}},
		"App Engine, token":    {request: handoff.Request{URL: "/", ServiceAccount: "a@b", AppEngine: &handoff.AppEngineTarget{}}, says: []string{"AppEngine", "token"}},
		"bad retry":            {request: handoff.Request{URL: hook, Retry: handoff.Retry{MaxAttempts: -3}}, says: []string{"Retry.MaxAttempts", "-3"}},
		"unnamed and named":    {request: handoff.Request{URL: hook, Unnamed: true}, opts: []handoff.Option{handoff.Name("n")}, says: []string{"Unnamed"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := new(taskServer)
			_, err := server.client(t, nil).EnqueueRequest(t.Context(), tc.request, tc.opts...)
			assert.ErrorContains(t, err, append(tc.says, "handoff: ")...)
			creates, _, _ := server.counts()
			assert.Equal(t, creates, 0)
		})
	}
}
