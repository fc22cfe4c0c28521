package rest

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// selection is the set of fields that the fields parameter selects: by number,
// each with the selection within it. Nil selects everything.
type selection map[protoreflect.FieldNumber]selection

// deepest is more than the nesting of any message here.
const deepest = 16

// parseFields parses a list of fields, such as
// "tasks(name,httpRequest/url),nextPageToken", where "." may stand for "/" and
// "*" selects every field. Unlike a field mask it can select fields of the
// messages of a list.
func parseFields(text string, message protoreflect.MessageDescriptor) (selection, error) {
	paths, rest := fieldPaths(text, nil)
	if rest != "" {
		return nil, invalid([]violation{{field: "fields", text: "Error expanding 'fields' parameter. Parentheses do not match, or nest too deep."}})
	}
	s := selection{}
	for _, path := range paths {
		if !s.add(path, message) {
			at := shorten(strings.Join(path, "."))
			return nil, invalid([]violation{{field: at, text: fmt.Sprintf("Error expanding 'fields' parameter. Cannot find matching fields for path '%s'.", at)}})
		}
	}
	return s, nil
}

// fieldPaths parses a list up to its end or its closing parenthesis. It returns
// the paths and the rest of the text.
func fieldPaths(text string, under []string) (paths [][]string, rest string) {
	for {
		end := len(text)
		if at := strings.IndexAny(text, ",()"); at >= 0 {
			end = at
		}
		path := slices.Concat(under, strings.Split(strings.ReplaceAll(text[:end], "/", "."), "."))
		text = text[end:]
		if strings.HasPrefix(text, "(") && len(path) < deepest {
			inner, after := fieldPaths(text[1:], path)
			if !strings.HasPrefix(after, ")") {
				return nil, text
			}
			paths, text = append(paths, inner...), after[1:]
		} else {
			paths = append(paths, path)
		}
		if !strings.HasPrefix(text, ",") {
			return paths, text
		}
		text = text[1:]
	}
}

// add selects the field at path, and reports whether it exists.
func (s selection) add(path []string, message protoreflect.MessageDescriptor) (found bool) {
	fields := message.Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if path[0] != "*" && path[0] != field.JSONName() && path[0] != field.TextName() {
			continue
		}
		if len(path) == 1 || isAny(field) { // the type within an Any is not known
			s[field.Number()] = nil
			found = true
			continue
		}
		if !walkable(field) {
			continue
		}
		part, selected := s[field.Number()]
		whole := selected && part == nil
		if part == nil {
			part = selection{}
		}
		if !part.add(path[1:], field.Message()) {
			continue
		}
		found = true
		if !whole {
			s[field.Number()] = part
		}
	}
	return found
}

func isAny(field protoreflect.FieldDescriptor) bool {
	return field.Message() != nil && field.Message().FullName() == "google.protobuf.Any"
}

// of returns the selected fields of a message. The result shares parts with it.
func (s selection) of(message protoreflect.Message) protoreflect.Message {
	if s == nil {
		return message
	}
	left := message.New()
	for field, value := range message.Range {
		part, selected := s[field.Number()]
		switch {
		case !selected:
		case part == nil:
			left.Set(field, value)
		case field.IsList():
			list := left.Mutable(field).List()
			for i := range value.List().Len() {
				list.Append(protoreflect.ValueOfMessage(part.of(value.List().Get(i).Message())))
			}
		default:
			left.Set(field, protoreflect.ValueOfMessage(part.of(value.Message())))
		}
	}
	return left
}
