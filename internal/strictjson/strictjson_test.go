package strictjson_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/strictjson"
)

type base struct {
	ID string `json:"id"`
}

type Unit string

type Named struct{ Inner string }

type order struct {
	base
	Unit
	Named  `json:"named"`
	Odd    string            `json:"o'dd"` //nolint:staticcheck // no name for encoding/json, so it is Odd
	Amount int               `json:"amount"`
	AMOUNT int               `json:"AMOUNT,omitempty"`
	Key    string            // without a tag, so its name is Key
	Tags   map[string]string `json:"tags"`
	Lines  []*order          `json:"lines"`
	At     time.Time         `json:"at"`
	Any    any               `json:"any"`
	Raw    json.RawMessage   `json:"raw"`
	Big    *big.Int          `json:"big"`
	Hidden string            `json:"-"`
}

func TestCheck(t *testing.T) {
	t.Parallel()
	nested := func(n int) string { return `{"any":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + "}" }
	many := func(last string) string {
		var b strings.Builder
		for i := range 100 {
			fmt.Fprintf(&b, `"k%d":"","K%d":"",`, i, i)
		}
		return `{"tags":{` + b.String() + last + `}}`
	}
	for name, tc := range map[string]struct{ text, says string }{
		"everything":                {`{"id":"1","amount":1,"AMOUNT":2,"Key":"\ud83d\ude00 \\ \u0041","tags":{"a":"","A":""},"lines":[{"amount":1},null],"at":"2026-01-01T00:00:00Z","any":{"a":1,"A":[true,false,null,-1.5e+10]},"raw":{},"big":12}`, ""},
		"white space":               {" { \"amount\" :\t1 ,\n\"Key\" : \"\" } ", ""},
		"unknown members":           {`{"x":1,"X":1,"Hidden":1,"hidden":2}`, ""},
		"no object":                 {`[1]`, ""},
		"U+FFFD itself":             {`{"Key":"` + "\uFFFD" + `\ufffd"}`, ""},
		"repeated":                  {`{"amount":1,"amount":2}`, "repeated at offset 12"},
		"repeated, escaped":         {`{"amount":1,"\u0061mount":2}`, "repeated at offset 12"},
		"repeated, unknown":         {`{"x":1,"x":2}`, "repeated"},
		"repeated, in a map":        {`{"tags":{"a":"","a":""}}`, "repeated"},
		"repeated, in an any":       {`{"any":[{"a":{"b":1,"b":1}}]}`, "repeated"},
		"repeated, in a RawMessage": {`{"raw":{"b":1,"b":1}}`, "repeated"},
		"repeated, embedded":        {`{"id":"1","ID":"2"}`, "repeated"},
		"case variant, embedded":    {`{"Unit":"1","unit":"2"}`, "repeated"},
		"case variant":              {`{"Key":"1","key":"2"}`, "repeated at offset 11"},
		"case variant, odd tag":     {`{"Odd":"1","odd":"2"}`, "repeated"},
		"not promoted":              {`{"named":{"Inner":""},"Inner":"1","inner":"2"}`, ""},
		"Kelvin variant":            {`{"Key":"1","` + "\u212A" + `ey":"2"}`, "repeated"},
		"case variant, in a list":   {`{"lines":[{},{"Key":"","KEY":""}]}`, "repeated"},
		"third of two":              {`{"amount":1,"AMOUNT":2,"Amount":3}`, "repeated"},
		"many":                      {many(`"z":""`), ""},
		"many, repeated":            {many(`"k7":""`), "repeated"},
		"many, few repeated":        {many(`"k0":""`), "repeated"},
		"deep enough":               {nested(strictjson.MaxDepth), ""},
		"too deep":                  {nested(strictjson.MaxDepth + 1), "more than 1000 levels"},
		"far too deep":              {nested(1 << 20), "more than 1000 levels"},
		"long number":               {`{"big":` + strings.Repeat("9", strictjson.MaxNumber) + `}`, ""},
		"too long number":           {`{"big":` + strings.Repeat("9", strictjson.MaxNumber+1) + `}`, "more than 4096 bytes"},
		"too long fraction":         {`{"any":0.` + strings.Repeat("9", strictjson.MaxNumber) + `}`, "more than 4096 bytes"},
		"exponent":                  {`{"any":1e-0009999}`, ""},
		"too large exponent":        {`{"any":1E+10000}`, "exponent over 9999"},
		"huge exponent":             {`{"any":1e99999999999999999999}`, "exponent over 9999"},
		"not UTF-8":                 {"{\"Key\":\"a\xff\"}", "not UTF-8 at offset 9"},
		"half a pair":               {`{"Key":"\ud83d"}`, "surrogate pair at offset 8"},
		"half a pair, before text":  {`{"Key":"\ud83d\u0041"}`, "surrogate"},
		"two first halves":          {`{"Key":"\ud83d\ud83d\ude00"}`, "surrogate"},
		"the second half":           {`{"Key":"\uDE00"}`, "surrogate"},
		"half a pair in a name":     {`{"\ud83d":1}`, "surrogate"},
		"an escaped backslash":      {`{"Key":"\\ud83d"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := strictjson.Check([]byte(tc.text), reflect.TypeFor[*order]())
			if tc.says != "" {
				assert.ErrorContains(t, err, tc.says)
				return
			}
			assert.NoError(t, err)
			if !json.Valid([]byte(tc.text)) {
				t.Error("the text of the test is not valid JSON")
			}
		})
	}
}

// FuzzCheck shows that no member is lost when a text that Check accepts is decoded:
// the decoded value has as many members as the text.
func FuzzCheck(f *testing.F) {
	for _, seed := range []string{`{"a":{"b":[1,"\ud83d\ude00"]},"A":1e9}`, `{"a":1,"a":2}`, `"\ud83d"`, "\"\xff\"", `[1e10000]`, `{"a`, `"\`, `{"\u`, `-`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if strictjson.Check(text, reflect.TypeFor[any]()) != nil || !json.Valid(text) {
			return
		}
		if names, colons := countNames(text), countMembers(text); names != colons {
			t.Errorf("the text has %d members, but its decoded value %d: %q", colons, names, text)
		}
	})
}

func decoded(text []byte) (v any) {
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	_ = d.Decode(&v)
	return v
}

// countNames counts the members of a decoded value.
func countNames(text []byte) int {
	var count func(v any) int
	count = func(v any) (n int) {
		switch v := v.(type) {
		case map[string]any:
			for _, of := range v {
				n += 1 + count(of)
			}
		case []any:
			for _, of := range v {
				n += count(of)
			}
		}
		return n
	}
	return count(decoded(text))
}

// countMembers counts the members in a text: each has one colon outside of strings.
func countMembers(text []byte) (n int) {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			quoted = !quoted
		case ':':
			if !quoted {
				n++
			}
		}
	}
	return n
}

func BenchmarkCheck(b *testing.B) {
	text := []byte(`{"id":"5f3e9c7a","amount":1299,"Key":"Bergstraße 4","tags":{"a":"1","b":"2"},"lines":[{"amount":1},{"amount":2}]}`)
	t := reflect.TypeFor[order]()
	b.Run("check", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := strictjson.Check(text, t); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("unmarshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var o order
			if err := json.Unmarshal(text, &o); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func TestReplaced(t *testing.T) {
	t.Parallel()
	const bad = "caf\xe9"
	for name, tc := range map[string]struct {
		v    any
		want bool
	}{
		"good":                    {order{Key: "café"}, false},
		"U+FFFD itself":           {order{Key: "\uFFFD"}, false},
		"a field":                 {order{Key: bad}, true},
		"embedded":                {order{base: base{ID: bad}}, true},
		"behind pointers":         {&order{Lines: []*order{nil, {Key: bad}}}, true},
		"a key":                   {order{Tags: map[string]string{bad: ""}}, true},
		"in an any":               {order{Any: []any{1, map[string]any{"a": bad}}}, true},
		"not marshalled":          {order{Hidden: bad, Raw: json.RawMessage(`"\ufffd"`)}, false},
		"JSON of another program": {order{Raw: json.RawMessage(`"\ufffd"`)}, false},
		"bytes are base64":        {[]any{[]byte(bad), json.RawMessage(`"\ufffd"`)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := json.Marshal(tc.v)
			assert.NoError(t, err)
			assert.Equal(t, strictjson.Replaced(text, tc.v), tc.want)
		})
	}
}
