package filter

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// compile returns the predicate of one comparison. A field that is not set
// matches only !=; scalar fields without presence are always set.
func compile(path []protoreflect.FieldDescriptor, op string, value lexeme) (predicate, error) {
	if op == ":" && value == (lexeme{word, "*"}) {
		return func(m protoreflect.Message) bool {
			_, ok := get(m, path)
			return ok
		}, nil
	}
	compare, err := comparer(path[len(path)-1], op, value.text)
	if err != nil {
		return nil, err
	}
	return func(m protoreflect.Message) bool {
		v, ok := get(m, path)
		if !ok {
			return op == "!="
		}
		return compare(v)
	}, nil
}

func get(m protoreflect.Message, path []protoreflect.FieldDescriptor) (protoreflect.Value, bool) {
	for _, fd := range path[:len(path)-1] {
		if !m.Has(fd) {
			return protoreflect.Value{}, false
		}
		m = m.Get(fd).Message()
	}
	last := path[len(path)-1]
	if last.HasPresence() && !m.Has(last) || (last.IsList() || last.IsMap()) && !m.Has(last) {
		return protoreflect.Value{}, false
	}
	return m.Get(last), true
}

// comparer parses the value as the type of the field, and returns the comparison
// with it.
func comparer(fd protoreflect.FieldDescriptor, op, text string) (func(protoreflect.Value) bool, error) {
	if fd.IsList() || fd.IsMap() {
		return nil, fmt.Errorf("field %q cannot be compared", fd.Name())
	}
	bad := func(what string) error { return fmt.Errorf("%q is not %s, as field %q is", text, what, fd.Name()) }
	switch fd.Kind() {
	case protoreflect.StringKind:
		return func(v protoreflect.Value) bool { return compareText(v.String(), op, text) }, nil
	case protoreflect.BoolKind:
		want, err := strconv.ParseBool(text)
		if err != nil {
			return nil, bad("true or false")
		}
		return func(v protoreflect.Value) bool { return ordered(op, boolInt(v.Bool()), boolInt(want)) }, nil
	case protoreflect.EnumKind:
		want := fd.Enum().Values().ByName(protoreflect.Name(strings.ToUpper(text)))
		if want == nil {
			return nil, bad("a value of the enumeration")
		}
		return func(v protoreflect.Value) bool { return ordered(op, v.Enum(), want.Number()) }, nil
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		want, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, bad("a number")
		}
		return func(v protoreflect.Value) bool { return ordered(op, v.Float(), want) }, nil
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		want, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, bad("a number")
		}
		return func(v protoreflect.Value) bool { return ordered(op, float64(v.Int()), want) }, nil
	case protoreflect.MessageKind:
		return messageComparer(fd, op, text, bad)
	}
	return nil, fmt.Errorf("field %q cannot be compared", fd.Name())
}

func messageComparer(fd protoreflect.FieldDescriptor, op, text string, bad func(string) error) (func(protoreflect.Value) bool, error) {
	switch fd.Message().FullName() {
	case "google.protobuf.Duration":
		want, err := time.ParseDuration(text)
		if err != nil {
			return nil, bad("a duration")
		}
		return func(v protoreflect.Value) bool {
			d, ok := v.Message().Interface().(*durationpb.Duration)
			return ok && ordered(op, d.AsDuration(), want)
		}, nil
	case "google.protobuf.Timestamp":
		want, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return nil, bad("an RFC 3339 time")
		}
		return func(v protoreflect.Value) bool {
			t, ok := v.Message().Interface().(*timestamppb.Timestamp)
			return ok && ordered(op, t.AsTime().Compare(want), 0)
		}, nil
	}
	return nil, fmt.Errorf("field %q cannot be compared, only its fields can", fd.Name())
}

// compareText ignores case; ":" matches a substring, as in Cloud Logging.
func compareText(have, op, want string) bool {
	have, want = strings.ToLower(have), strings.ToLower(want)
	if op == ":" {
		return strings.Contains(have, want)
	}
	return ordered(op, have, want)
}

func ordered[T cmp.Ordered](op string, have, want T) bool {
	switch op {
	case "=", ":":
		return have == want
	case "!=":
		return have != want
	case "<":
		return have < want
	case "<=":
		return have <= want
	case ">":
		return have > want
	default:
		return have >= want
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
