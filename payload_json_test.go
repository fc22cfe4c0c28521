package handoff_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
)

// parsed is a payload with a field of each type that JSON can misuse.
type parsed struct {
	Text string                     `json:"text"`
	Any  any                        `json:"any"`
	Map  map[string]json.RawMessage `json:"map"`
}

func (parsed) Kind() string { return "parsed" }

// verbatim is a payload that marshals to its text as it is.
type verbatim string

func (verbatim) Kind() string                   { return "parsed" }
func (v verbatim) MarshalJSON() ([]byte, error) { return []byte(v), nil }

// TestJSONThatIsNotTaken: JSON that a worker would refuse is refused at enqueue. If
// another producer sends it, the task is buried with the bytes of its body.
func TestJSONThatIsNotTaken(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ body, says string }{
		"deep":            {`{"any":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`, "levels"},
		"a huge exponent": {`{"any":1e1000000000}`, "exponent"},
		"a long number":   {`{"any":` + strings.Repeat("1", 5000) + `}`, "4096 bytes"},
		"a name twice":    {`{"text":"secret","map":{"a":1,"a":2}}`, "repeated"},
		"not UTF-8":       {"{\"text\":\"secret\xff\"}", "UTF-8"},
		"half a pair":     {`{"text":"secret\ud800"}`, "surrogate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := new(taskServer)
			_, err := server.client(t, nil).Enqueue(t.Context(), verbatim(tc.body), handoff.OnQueue("q"))
			assert.ErrorContains(t, err, "handoff: enqueue parsed", tc.says)
			assert.Equal(t, len(server.taken()), 0)

			b := newFixture(t, nil)
			handoff.Handle(b.Router, func(context.Context, parsed) error { t.Error("it ran"); return nil })
			d := typed("1", "")
			d.kind, d.body = "parsed", tc.body
			assert.Status(t, b.send(t, d), 205)
			letter := b.onlyLetter(t)
			assert.Equal(t, string(letter.Payload), tc.body)
			assert.Equal(t, letter.Reasons, []handoff.Reason{handoff.ReasonUndecodable})
			if !strings.Contains(letter.LastErr, tc.says) || strings.Contains(letter.LastErr, "secret") {
				t.Errorf("the letter says %q", letter.LastErr)
			}
		})
	}
}

// Two spellings of one field's name count as repeated, because the decoder would
// decide which value wins.
func TestNamesOfOneField(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	handoff.Handle(b.Router, func(_ context.Context, p parsed) error {
		assert.Equal(t, len(p.Map), 2) // keys of a map may differ by case
		return nil
	})
	d := typed("1", "")
	d.kind, d.body = "parsed", `{"text":"a","map":{"a":1,"A":2}}`
	assert.Status(t, b.send(t, d), 200)
	d = typed("2", "")
	d.kind, d.body = "parsed", `{"text":"a","Text":"b"}`
	assert.Status(t, b.send(t, d), 205)
}

func TestEnqueueTextThatIsNotUTF8(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	client := server.client(t, nil)
	_, err := client.Enqueue(t.Context(), parsed{Any: []any{"caf\xe9"}}, handoff.OnQueue("q"))
	assert.ErrorContains(t, err, "handoff: enqueue parsed", "not UTF-8", "[]byte")
	_, err = client.Enqueue(t.Context(), parsed{Text: "\uFFFD", Map: map[string]json.RawMessage{"a": json.RawMessage(`"\ufffd"`)}}, handoff.OnQueue("q"))
	assert.NoError(t, err)
	assert.Equal(t, len(server.taken()), 1)
}

// A letter whose body could not be decompressed is redriven with the body as it was
// sent.
func TestRedriveOfABodyAsSent(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	client := server.client(t, func(c *handoff.ClientConfig) { c.CompressOver = 1 })
	letter := letterOf(nil)
	letter.Payload, letter.Header["Content-Encoding"] = []byte(strings.Repeat("\x0b\x02\x80{}", 1000)), []string{"br"}
	_, err := client.Redrive(t.Context(), boxOf(t, letter), letter.ID)
	assert.NoError(t, err)
	sent := server.only(t).GetHttpRequest()
	assert.Equal(t, sent.GetHeaders()["Content-Encoding"], "br")
	assert.Equal(t, sent.GetBody(), letter.Payload)

	letter = letterOf(nil)
	letter.Header["Content-Encoding"] = []string{"br\r\nX-Evil: 1"}
	_, err = client.Redrive(t.Context(), boxOf(t, letter), letter.ID)
	assert.ErrorContains(t, err, "Content-Encoding", "control character")
}
