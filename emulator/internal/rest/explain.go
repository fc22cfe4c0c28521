package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// violation is one thing wrong with a request.
type violation struct {
	field string // proto names, dotted; empty at the top
	text  string
}

// explain returns the error for a body that does not decode, in the words of
// Google's front end, which lists every violation. It quotes no values, which
// may be secret.
func explain(body []byte, message protoreflect.MessageDescriptor, at protoreflect.FieldDescriptor) error {
	if err := json.Unmarshal(body, new(json.RawMessage)); err != nil {
		text := "Unexpected token."
		if errors.Is(err, io.ErrUnexpectedEOF) || strings.HasPrefix(err.Error(), "unexpected end") {
			text = "Unexpected end of string."
		}
		return invalid([]violation{{text: "Invalid JSON payload received. " + text}})
	}
	path := ""
	if at != nil {
		path = string(at.Name())
	}
	found := inspect(body, message, path)
	if len(found) == 0 {
		// Each field is valid alone, so two must conflict.
		found = []violation{{field: path, text: "Invalid JSON payload received. A field or a oneof is set twice."}}
	}
	return invalid(found)
}

// maxViolations is how many things wrong with a request are listed, so that an
// error is not many times larger than its request.
const maxViolations = 100

// inspect checks the members of an object in document order.
func inspect(raw json.RawMessage, message protoreflect.MessageDescriptor, path string) []violation {
	var found []violation
	whole := elements(raw, '{', func(name string, value json.RawMessage) bool {
		field := message.Fields().ByJSONName(name)
		if field == nil {
			field = message.Fields().ByTextName(name)
		}
		if field == nil {
			found = append(found, violation{field: path, text: unknownName(name, path)})
		} else {
			found = append(found, inspectField(value, field, join(path, string(field.Name())))...)
		}
		return len(found) < maxViolations
	})
	if !whole {
		return []violation{{field: path, text: fmt.Sprintf("Invalid value at '%s' (type.googleapis.com/%s)", path, message.FullName())}}
	}
	return found
}

func inspectField(raw json.RawMessage, field protoreflect.FieldDescriptor, path string) []violation {
	if string(raw) == "null" {
		return nil
	}
	bad := []violation{{field: path, text: fmt.Sprintf("Invalid value at '%s' (%s)", path, typeName(field))}}
	if !walkable(field) {
		object, err := json.Marshal(map[string]json.RawMessage{field.JSONName(): raw})
		if err == nil && protojson.Unmarshal(object, dynamicpb.NewMessage(field.ContainingMessage())) == nil {
			return nil
		}
		return bad
	}
	if field.Cardinality() != protoreflect.Repeated {
		return inspect(raw, field.Message(), path)
	}
	var found []violation
	i := 0
	whole := elements(raw, '[', func(_ string, item json.RawMessage) bool {
		found = append(found, inspect(item, field.Message(), fmt.Sprintf("%s[%d]", path, i))...)
		i++
		return len(found) < maxViolations
	})
	if !whole {
		return bad
	}
	return found
}

// walkable reports whether a field holds ordinary messages, whose members can be
// checked one by one: not scalars, maps, or types with their own JSON form, such
// as Timestamp.
func walkable(field protoreflect.FieldDescriptor) bool {
	return field.Message() != nil && !field.IsMap() && field.Message().ParentFile().Package() != "google.protobuf"
}

// elements visits the members of an object or the elements of an array, which
// have no name, in document order, until visit returns false. It reports whether
// raw, which is JSON, is one that opens so.
func elements(raw json.RawMessage, open json.Delim, visit func(name string, value json.RawMessage) bool) bool {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if first, err := dec.Token(); err != nil || first != open {
		return false
	}
	for more := true; more && dec.More(); {
		name := ""
		if open == '{' {
			token, err := dec.Token()
			if err != nil {
				return false
			}
			name = token.(string)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return false
		}
		more = visit(name, value)
	}
	return true
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func unknownName(name, path string) string {
	at := ""
	if path != "" {
		at = " at '" + path + "'"
	}
	return fmt.Sprintf("Invalid JSON payload received. Unknown name %q%s: Cannot find field.", shorten(name), at)
}

// shorten returns the beginning of a name that the caller chose.
func shorten(name string) string {
	const most = 200
	if len(name) <= most {
		return name
	}
	return strings.ToValidUTF8(name[:most], "") + "…"
}

func unknownParameter(name string) error {
	name = shorten(name)
	return invalid([]violation{{text: fmt.Sprintf("Invalid JSON payload received. Unknown name %q: Cannot bind query parameter. "+
		"Field '%s' could not be found in request message.", name, name)}})
}

func invalidValue(name string, field protoreflect.FieldDescriptor) error {
	return invalid([]violation{{field: name, text: fmt.Sprintf("Invalid value at '%s' (%s)", name, typeName(field))}})
}

// typeName returns a field's type as Google's front end writes it: TYPE_INT32,
// or the full name of an enum or message.
func typeName(field protoreflect.FieldDescriptor) string {
	switch {
	case field.Message() != nil:
		return "type.googleapis.com/" + string(field.Message().FullName())
	case field.Enum() != nil:
		return "type.googleapis.com/" + string(field.Enum().FullName())
	}
	return "TYPE_" + strings.ToUpper(field.Kind().String())
}

// invalid returns INVALID_ARGUMENT with one BadRequest detail for all
// violations.
func invalid(found []violation) error {
	lines := make([]string, len(found))
	detail := &errdetails.BadRequest{}
	for i, v := range found {
		lines[i] = v.text
		detail.FieldViolations = append(detail.FieldViolations,
			&errdetails.BadRequest_FieldViolation{Field: v.field, Description: v.text})
	}
	plain := status.New(codes.InvalidArgument, strings.Join(lines, "\n"))
	detailed, err := plain.WithDetails(detail)
	if err != nil {
		return plain.Err()
	}
	return detailed.Err()
}
