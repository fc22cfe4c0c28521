package rest

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// fill decodes a request into message: first the body, then the query, then the
// path, which takes precedence.
func (b *binding) fill(message protoreflect.Message, vars []variable, q query, body []byte) error {
	if err := b.fillBody(message, body); err != nil {
		return err
	}
	if err := b.fillQuery(message, q); err != nil {
		return err
	}
	for _, v := range vars {
		fields, err := resolve(message.Descriptor(), v.name)
		if err != nil {
			return err
		}
		parent, field := descend(message, fields)
		if !utf8.ValidString(v.value) { // a gRPC server refuses it too
			return invalidValue(v.name, field)
		}
		parent.Set(field, protoreflect.ValueOfString(v.value))
	}
	return nil
}

// fillBody decodes the JSON body. An empty one is an empty message: Google's own
// samples send no bytes where the annotation says "*" (docs/cloud-tasks.md#3.1,
// #9.8).
func (b *binding) fillBody(message protoreflect.Message, body []byte) error {
	switch {
	case b.body.field != nil:
		message = message.Mutable(b.body.field).Message()
	case !b.body.whole:
		return nil
	}
	if len(body) == 0 {
		return nil
	}
	// The library's error texts are unstable on purpose and quote the payload, so
	// they are not used.
	if protojson.Unmarshal(body, message.Interface()) != nil {
		return explain(body, message.Descriptor(), b.body.field)
	}
	return nil
}

func (b *binding) fillQuery(message protoreflect.Message, q query) error {
	for _, p := range q.params {
		fields, err := resolve(message.Descriptor(), p.name)
		if err != nil || b.body.whole || slices.Contains(b.bound, fields[0].Name()) {
			return unknownParameter(p.name)
		}
		parent, field := descend(message, fields)
		if slices.ContainsFunc(p.values, func(v string) bool { return !utf8.ValidString(v) }) {
			return invalidValue(p.name, field)
		}
		if err := setParameter(parent, field, p); err != nil {
			return err
		}
	}
	return nil
}

// descend follows a path of fields, creates messages that are missing, and
// returns the message that holds the last field.
func descend(message protoreflect.Message, fields []protoreflect.FieldDescriptor) (protoreflect.Message, protoreflect.FieldDescriptor) {
	last := len(fields) - 1
	for _, f := range fields[:last] {
		message = message.Mutable(f).Message()
	}
	return message, fields[last]
}

// incoming returns the request's context with its headers as gRPC metadata, so
// that an interceptor sees the same for both protocols.
func incoming(r *http.Request) context.Context {
	md := make(metadata.MD, len(r.Header))
	for name, values := range r.Header {
		md[strings.ToLower(name)] = values
	}
	return metadata.NewIncomingContext(r.Context(), md)
}
