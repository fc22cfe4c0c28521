package steps

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/brillconsulting/handoff"
)

// version is the version of the memo's format. In another version the fields may
// have another meaning.
const version = 1

// memo is what is kept with the work, as JSON.
type memo struct {
	Version int     `json:"v"`
	Done    []entry `json:"done,omitempty"` // in the order in which they finished
	At      *entry  `json:"at,omitempty"`   // the step that runs, once it has a position
}

// entry is a step with its result or its position. A finished Each or Tx has neither.
type entry struct {
	Name  string          `json:"n"`
	Value json.RawMessage `json:"r,omitempty"`
}

func parse(text []byte) (memo, error) {
	m := memo{Version: version}
	if len(text) == 0 {
		return m, nil
	}
	m.Version = 0
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("the memo of the work is not of package steps: %w", err)
	}
	if m.Version != version {
		return m, fmt.Errorf("the memo of the work has version %d, must be %d: another version of handoff wrote it", m.Version, version)
	}
	return m, nil
}

// with returns the memo in which the step that runs has finished.
func (m memo) with(name string, value json.RawMessage) memo {
	m.Done, m.At = append(slices.Clip(m.Done), entry{name, value}), nil
	return m
}

// text encodes the memo. last and value are the step that changed and its new
// value, for the error.
func (m memo) text(last string, value json.RawMessage) ([]byte, error) {
	text, err := encode(m)
	if err != nil {
		return nil, fmt.Errorf("steps: step %q: %w", last, err)
	}
	if len(text) > handoff.MaxMemo {
		return nil, fmt.Errorf("steps: step %q: the memo of the work would have %d bytes, must be %d at most; the new value has %d: keep large values elsewhere, and return where",
			last, len(text), handoff.MaxMemo, len(value))
	}
	return text, nil
}

// encode returns v as JSON, without the escapes that only HTML needs.
func encode(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Progress is how far work with steps has come.
type Progress struct {
	Done     []string        // names of the finished steps, in order
	Step     string          // the step that runs and has a position; empty for none
	Position json.RawMessage // what Cursor.Save saved last, as JSON; nil for none
}

// ParseProgress returns the progress in the memo of a work's record, for tools that
// show it. text is the memo of a [handoff.KeyRecord] or a [handoff.Held]. It returns an
// error if another package wrote the memo.
func ParseProgress(text []byte) (Progress, error) {
	m, err := parse(text)
	if err != nil {
		return Progress{}, fmt.Errorf("steps: %w", err)
	}
	var p Progress
	for _, e := range m.Done {
		p.Done = append(p.Done, e.Name)
	}
	if m.At != nil {
		p.Step, p.Position = m.At.Name, m.At.Value
	}
	return p, nil
}
