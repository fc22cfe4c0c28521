package recipes

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Event is an event of another system. Its fields may be any JSON.
type Event struct {
	ID     int64 // a type of its own keeps all digits
	Fields Fields
}

// Kind implements handoff.Payload.
func (Event) Kind() string { return "event" }

// Fields are JSON of any shape. Numbers in it are json.Number, because float64, which
// encoding/json uses for any, has 53 bits: 9007199254740993 would become …992.
type Fields map[string]any

// UnmarshalJSON implements json.Unmarshaler.
func (f *Fields) UnmarshalJSON(text []byte) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	return dec.Decode((*map[string]any)(f))
}

// Int returns a field that is an integer.
func (f Fields) Int(name string) (int64, error) {
	n, ok := f[name].(json.Number)
	if !ok {
		return 0, fmt.Errorf("recipes: the field %q is not a number", name)
	}
	return n.Int64()
}
