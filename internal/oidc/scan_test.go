package oidc_test

import (
	"encoding/json"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/oidc"
)

func TestObject(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in   string
		want []string // names and raw values; nil: refused
	}{
		"empty":                 {`{}`, []string{}},
		"one":                   {`{"a":"b"}`, []string{"a", `"b"`}},
		"all types":             {`{"s":"x","n":12,"t":true,"f":false,"z":null}`, []string{"s", `"x"`, "n", "12", "t", "true", "f", "false", "z", "null"}},
		"white space":           {" { \"a\"\t:\r\n1 , \"b\" : 2 } ", []string{"a", "1", "b", "2"}},
		"nested":                {`{"a":{"b":[1,"}",{"c":"]"}]},"d":1}`, []string{"a", `{"b":[1,"}",{"c":"]"}]}`, "d", "1"}},
		"escapes in a value":    {`{"a":"\"\u003d\\"}`, []string{"a", `"\"\u003d\\"`}},
		"odd numbers":           {`{"a":-1.5e3}`, []string{"a", "-1.5e3"}},
		"the same twice":        {`{"a":1,"a":2}`, []string{"a", "1", "a", "2"}},
		"nothing":               {``, nil},
		"null":                  {`null`, nil},
		"array":                 {`[]`, nil},
		"string":                {`"a"`, nil},
		"not closed":            {`{"a":1`, nil},
		"no value":              {`{"a":}`, nil},
		"no colon":              {`{"a" 1}`, nil},
		"name without quotes":   {`{a:1}`, nil},
		"name of another type":  {`{1:1}`, nil},
		"escape in a name":      {`{"\u0061":1}`, nil},
		"name beyond ASCII":     {`{"iſs":1}`, nil},
		"comma at the end":      {`{"a":1,}`, nil},
		"comma at the start":    {`{,"a":1}`, nil},
		"two objects":           {`{"a":1}{"b":2}`, nil},
		"bytes after it":        {`{"a":1}x`, nil},
		"leading zero":          {`{"a":01}`, nil},
		"plus sign":             {`{"a":+1}`, nil},
		"hexadecimal":           {`{"a":0x1}`, nil},
		"not a number":          {`{"a":NaN}`, nil},
		"control character":     {"{\"a\":\"\x01\"}", nil},
		"bad escape":            {`{"a":"\x"}`, nil},
		"escape at the end":     {`{"a":"\`, nil},
		"brackets do not match": {`{"a":[}]}`, nil},
		"byte order mark":       {"\ufeff{}", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := []string{}
			ok := oidc.Object(tc.in, func(name, value string) bool {
				got = append(got, name, value)
				return true
			})
			assert.Equal(t, ok, tc.want != nil)
			if ok {
				assert.Equal(t, got, tc.want)
			}
		})
	}
}

func TestObjectStopsWhenTold(t *testing.T) {
	t.Parallel()
	calls := 0
	ok := oidc.Object(`{"a":1,"b":2}`, func(string, string) bool { calls++; return false })
	if ok || calls != 1 {
		t.Fatalf("accepted: %v, after %d calls", ok, calls)
	}
}

// Whatever object accepts, encoding/json accepts too, with the same members. (It
// keeps the last of repeated members.)
func FuzzObject(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":"b","c":1,"d":true,"e":null}`, `{"a":{"b":[1,{"c":"}"}]}}`, " {\"a\" : 1.5e-3 , \"a\":\"\\u003d\"}\n",
		`{"a":1,}`, `{"a":"`, `{"a":[}`, `{"iſs":1}`, `null`, `{"a":01}`, "{\"a\":\"\xff\"}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := make(map[string]string)
		ok := oidc.Object(s, func(name, value string) bool {
			got[name] = value
			return true
		})
		if !ok {
			return
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal([]byte(s), &want); err != nil {
			t.Fatalf("accepted what encoding/json does not: %v", err)
		}
		assert.Equal(t, len(got), len(want))
		for name, value := range want {
			assert.Equal(t, got[name], string(value))
		}
	})
}
