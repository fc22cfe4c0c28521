package strictjson

import (
	"bytes"
	"encoding"
	"encoding/json"
	"reflect"
	"unicode/utf8"
)

// Replaced reports whether text, the JSON that json.Marshal made of v, has U+FFFD
// in place of bytes of v that are not UTF-8.
func Replaced(text []byte, v any) bool {
	// A U+FFFD may also come from v itself, so v is searched. Up to Go 1.26,
	// Marshal writes its replacement as an escape.
	put := bytes.Contains(text, []byte(`\ufffd`)) || bytes.Contains(text, []byte("\uFFFD"))
	return put && invalid(reflect.ValueOf(v))
}

// invalid reports whether there is a string that is not UTF-8 in what Marshal
// takes from v.
func invalid(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return !v.IsNil() && invalid(v.Elem())
	case reflect.Invalid:
		return false
	}
	if t := reflect.PointerTo(v.Type()); t.Implements(marshaler) || t.Implements(textMarshaler) {
		return false
	}
	switch v.Kind() {
	case reflect.String:
		return !utf8.ValidString(v.String())
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if v.Type().Elem().Kind() != reflect.Uint8 && invalid(v.Index(i)) {
				return true
			}
		}
	case reflect.Map:
		for at := v.MapRange(); at.Next(); {
			if invalid(at.Key()) || invalid(at.Value()) {
				return true
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if (field.IsExported() || field.Anonymous) && field.Tag.Get("json") != "-" && invalid(v.Field(i)) {
				return true
			}
		}
	}
	return false
}

var (
	marshaler     = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)
