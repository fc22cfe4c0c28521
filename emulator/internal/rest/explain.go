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

// inspect checks the members of an object in document order.
func inspect(raw json.RawMessage, message protoreflect.MessageDescriptor, path string) []violation {
	entries, ok := members(raw)
	if !ok {
		return []violation{{field: path, text: fmt.Sprintf("Invalid value at '%s' (type.googleapis.com/%s)", path, message.FullName())}}
	}
	var found []violation
	for _, e := range entries {
		field := message.Fields().ByJSONName(e.name)
		if field == nil {
			field = message.Fields().ByTextName(e.name)
		}
		if field == nil {
			found = append(found, violation{field: path, text: unknownName(e.name, path)})
			continue
		}
		found = append(found, inspectField(e.value, field, join(path, string(field.Name())))...)
	}
	return found
}

func inspectField(raw json.RawMessage, field protoreflect.FieldDescriptor, path string) []violation {
	if string(raw) == "null" {
		return nil
	}
	if !walkable(field) {
		object, err := json.Marshal(map[string]json.RawMessage{field.JSONName(): raw})
		if err == nil && protojson.Unmarshal(object, dynamicpb.NewMessage(field.ContainingMessage())) == nil {
			return nil
		}
		return []violation{{field: path, text: fmt.Sprintf("Invalid value at '%s' (%s)", path, typeName(field))}}
	}
	if field.Cardinality() != protoreflect.Repeated {
		return inspect(raw, field.Message(), path)
	}
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil {
		return []violation{{field: path, text: fmt.Sprintf("Invalid value at '%s' (%s)", path, typeName(field))}}
	}
	var found []violation
	for i, item := range items {
		found = append(found, inspect(item, field.Message(), fmt.Sprintf("%s[%d]", path, i))...)
	}
	return found
}

// walkable reports whether a field holds ordinary messages, whose members can be
// checked one by one: not scalars, maps, or types with their own JSON form, such
// as Timestamp.
func walkable(field protoreflect.FieldDescriptor) bool {
	return field.Message() != nil && !field.IsMap() && field.Message().ParentFile().Package() != "google.protobuf"
}

type member struct {
	name  string
	value json.RawMessage
}

// members returns the members of an object in document order, which a map would
// lose.
func members(raw json.RawMessage) ([]member, bool) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, false
	}
	var all []member
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, false
		}
		m := member{name: name.(string)}
		if err := dec.Decode(&m.value); err != nil {
			return nil, false
		}
		all = append(all, m)
	}
	return all, true
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
	return fmt.Sprintf("Invalid JSON payload received. Unknown name %q%s: Cannot find field.", name, at)
}

func unknownParameter(name string) error {
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
