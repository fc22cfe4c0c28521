package strictjson

import (
	"bytes"
	"cmp"
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// base returns the type that JSON for a t is decoded into, without pointers; nil if
// that is not known, because t decodes itself or is an interface.
func base(t reflect.Type) reflect.Type {
	for t != nil {
		if decodesItself(t) {
			return nil
		}
		if t.Kind() != reflect.Pointer {
			break
		}
		t = t.Elem()
	}
	return t
}

var (
	unmarshaler     = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func decodesItself(t reflect.Type) bool {
	if t.Kind() == reflect.Interface {
		return true
	}
	p := reflect.PointerTo(t)
	return p.Implements(unmarshaler) || p.Implements(textUnmarshaler)
}

// elem returns the type of what a map, slice or array holds, nil if t is none.
func elem(t reflect.Type) reflect.Type {
	if t = base(t); t == nil {
		return nil
	}
	switch t.Kind() {
	case reflect.Map, reflect.Slice, reflect.Array:
		return t.Elem()
	}
	return nil
}

// field is a field of a struct.
type field struct{ t reflect.Type }

// fields are those of one struct type, by their exact and by their folded names.
type fields struct{ exact, folded map[string]*field }

// find returns the field that encoding/json sets for a name, nil if there is none.
func (f *fields) find(name []byte) *field {
	if f == nil {
		return nil
	}
	if found := f.exact[string(name)]; found != nil {
		return found
	}
	return f.folded[fold(string(name))]
}

var known sync.Map // of reflect.Type, the *fields

// fieldsOf returns the fields of a struct, nil if t is none.
func fieldsOf(t reflect.Type) *fields {
	t = base(t)
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	if found, ok := known.Load(t); ok {
		return found.(*fields)
	}
	f := &fields{exact: make(map[string]*field), folded: make(map[string]*field)}
	visible := reflect.VisibleFields(t)
	slices.SortStableFunc(visible, func(a, b reflect.StructField) int { return cmp.Compare(len(a.Index), len(b.Index)) })
	var named [][]int // embedded structs with a name, none of whose fields is promoted
	for _, v := range visible {
		tag := v.Tag.Get("json")
		name := nameIn(tag)
		promotes := v.Anonymous && name == "" && structure(v.Type)
		if v.Anonymous && !promotes {
			named = append(named, v.Index)
		}
		inNamed := func(of []int) bool { return len(of) < len(v.Index) && slices.Equal(of, v.Index[:len(of)]) }
		if tag == "-" || !v.IsExported() || promotes || slices.ContainsFunc(named, inNamed) {
			continue
		}
		name = cmp.Or(name, v.Name)
		if f.exact[name] != nil {
			continue // the one that is nested less is set
		}
		found := &field{t: v.Type}
		f.exact[name] = found
		if key := fold(name); f.folded[key] == nil {
			f.folded[key] = found
		}
	}
	stored, _ := known.LoadOrStore(t, f)
	return stored.(*fields)
}

// nameIn returns the name in a json tag, if encoding/json takes it for one.
func nameIn(tag string) string {
	name, _, _ := strings.Cut(tag, ",")
	invalid := func(c rune) bool {
		return !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", c) && !unicode.IsLetter(c) && !unicode.IsDigit(c)
	}
	if strings.ContainsFunc(name, invalid) {
		return ""
	}
	return name
}

// structure reports whether t is a struct or points to one: embedded without a tag, it
// is no field itself.
func structure(t reflect.Type) bool {
	return t.Kind() == reflect.Struct || t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct
}

// fold returns a text that is the same for all names that differ in case only, as
// encoding/json compares them: "K", "k" and the Kelvin sign are the same.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, name)
}

// members are the members of one object so far.
type members struct {
	fields *fields
	set    []*field            // the fields that they set
	few    [][]byte            // names that set none, while there are few
	many   map[string]struct{} // once there are more
}

const few = 16

// add adds a member and returns the field that it sets, if any. It reports whether
// the member is the first of its kind.
func (m *members) add(name []byte) (*field, bool) {
	if f := m.fields.find(name); f != nil {
		if slices.Contains(m.set, f) {
			return nil, false
		}
		m.set = append(m.set, f)
		return f, true
	}
	if m.many == nil && len(m.few) < few {
		if slices.ContainsFunc(m.few, func(other []byte) bool { return bytes.Equal(other, name) }) {
			return nil, false
		}
		m.few = append(m.few, name)
		return nil, true
	}
	if m.many == nil {
		m.many = make(map[string]struct{}, 2*few)
		for _, name := range m.few {
			m.many[string(name)] = struct{}{}
		}
	}
	before := len(m.many)
	m.many[string(name)] = struct{}{}
	return nil, len(m.many) > before
}
