package rest_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// FuzzTranscoder shows that for any request the response is JSON, an error is a
// 4xx, and what reaches the service is a valid message.
func FuzzTranscoder(f *testing.F) {
	const q = "/v2/" + queueName
	f.Add("GET", q, "", "")
	f.Add("GET", q+"/tasks", "pageSize=25&responseView=2&$alt=json;enum-encoding=int", "")
	f.Add("PATCH", q, "updateMask=rateLimits.maxDispatchesPerSecond%2Cstate", `{"rateLimits":{"maxDispatchesPerSecond":1}}`)
	f.Add("POST", q+"/tasks", "", `{"task":{"httpRequest":{"url":"http://w","body":"aGk=","headers":{"a":"b"}},"scheduleTime":"2030-01-01T00:00:00Z"}}`)
	f.Add("POST", q+"/tasks:batchCreate", "", `{"requests":[{"task":{}},{"x":1}]}`)
	f.Add("POST", q+":pause", "", "")
	f.Add("PATCH", q, "updateMask=0", "")
	f.Add("GET", q+"%ff", "", "")
	f.Add("GET", "/v1/operations/a/%2F", "", "")
	f.Add("POST", q+"/tasks", "", `{"task":{"httpRequest":{},"httpRequest":{}}}`)
	f.Fuzz(func(t *testing.T, verb, path, query, body string) {
		if verb == "" || strings.ContainsAny(verb, " \t\r\n") {
			return
		}
		u, err := url.ParseRequestURI("/" + strings.TrimLeft(path, "/"))
		if err != nil {
			return
		}
		u.RawQuery = query
		s := &services{answer: func(string) (proto.Message, error) { return &emptypb.Empty{}, nil }}
		r := &http.Request{Method: verb, URL: u, Header: http.Header{}, Body: http.NoBody}
		if body != "" {
			r = httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
			r.Method, r.URL = verb, u
		}
		rec := httptest.NewRecorder()
		serve(t, s, nil).ServeHTTP(rec, r)
		if !json.Valid(rec.Body.Bytes()) {
			t.Fatalf("not JSON: %q", rec.Body)
		}
		if rec.Code >= 500 {
			t.Fatalf("status %d: %s", rec.Code, rec.Body)
		}
		if rec.Code != http.StatusOK {
			return
		}
		if _, err := proto.Marshal(s.last(t).request); err != nil {
			t.Fatalf("what reached the service is no message: %v", err)
		}
	})
}

// FuzzFields shows that any selection returns a part of the whole response.
func FuzzFields(f *testing.F) {
	for _, fields := range []string{"", "*", "tasks(name,*/url),nextPageToken", "tasks/httpRequest.headers", "a(b(c)),d)", "*/*/*/*", "tasks,", ","} {
		f.Add(fields)
	}
	get := func(t *testing.T, fields string) (status int, answer any) {
		rec := do(serve(t, &services{answer: lists}, nil), "GET", "/v2/"+queueName+"/tasks?fields="+url.QueryEscape(fields), "")
		if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil {
			t.Fatalf("%v: %s", err, rec.Body)
		}
		return rec.Code, answer
	}
	f.Fuzz(func(t *testing.T, fields string) {
		_, whole := get(t, "")
		switch status, answer := get(t, fields); {
		case status == http.StatusOK && !within(answer, whole):
			t.Fatalf("fields=%s: %v is not within %v", fields, answer, whole)
		case status != http.StatusOK && status != http.StatusBadRequest:
			t.Fatalf("status %d", status)
		}
	})
}

// within reports whether whole contains all of part, in the same places.
func within(part, whole any) bool {
	switch p := part.(type) {
	case map[string]any:
		w, _ := whole.(map[string]any)
		for name := range p {
			if _, ok := w[name]; !ok || !within(p[name], w[name]) {
				return false
			}
		}
		return true
	case []any:
		w, _ := whole.([]any)
		return slices.EqualFunc(p, w, within)
	}
	return part == whole
}
