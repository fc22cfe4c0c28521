package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// methodHandler is the type of grpc.MethodDesc.Handler.
type methodHandler = func(srv any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error)

// binding maps an HTTP method and a path template to an RPC.
type binding struct {
	verb     string // empty: any
	template *template
	envelope string

	// Of an RPC:
	impl    any
	handler methodHandler
	output  protoreflect.MessageDescriptor
	body    bodyField
	bound   []protoreflect.Name // top-level fields that the path or body sets, so that the query may not

	// Of a Route:
	route func(r *http.Request, vars map[string]string, body []byte) (proto.Message, error)
}

// bodyField is the body of an annotation: empty, "*" for the whole request, or
// one of its fields.
type bodyField struct {
	whole bool
	field protoreflect.FieldDescriptor
}

// serviceBindings returns the bindings of s, from its annotations and the rules
// that select it.
func serviceBindings(s Service, rules []*annotations.HttpRule) ([]*binding, error) {
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(s.Desc.ServiceName))
	if err != nil {
		return nil, fmt.Errorf("rest: service %s: %w", s.Desc.ServiceName, err)
	}
	service, ok := found.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, fmt.Errorf("rest: %s is not a service", s.Desc.ServiceName)
	}
	var bindings []*binding
	var errs []error
	for i := range s.Desc.Methods {
		method := service.Methods().ByName(protoreflect.Name(s.Desc.Methods[i].MethodName))
		if method == nil {
			errs = append(errs, fmt.Errorf("rest: %s has no method %s", s.Desc.ServiceName, s.Desc.Methods[i].MethodName))
			continue
		}
		for _, rule := range methodRules(method, rules) {
			b, err := newBinding(rule, method.Input())
			if err != nil {
				errs = append(errs, fmt.Errorf("%w (method %s)", err, method.FullName()))
				continue
			}
			b.impl, b.handler, b.output = s.Impl, methodHandler(s.Desc.Methods[i].Handler), method.Output()
			bindings = append(bindings, b)
		}
	}
	return bindings, errors.Join(errs...)
}

// methodRules returns the method's annotation and the rules that select it, with
// their additional bindings.
func methodRules(method protoreflect.MethodDescriptor, rules []*annotations.HttpRule) []*annotations.HttpRule {
	var own []*annotations.HttpRule
	if proto.HasExtension(method.Options(), annotations.E_Http) {
		own = append(own, proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule))
	}
	for _, rule := range rules {
		if rule.GetSelector() == string(method.FullName()) {
			own = append(own, rule)
		}
	}
	var all []*annotations.HttpRule
	for _, rule := range own {
		all = append(all, rule)
		all = append(all, rule.GetAdditionalBindings()...)
	}
	return all
}

func newBinding(rule *annotations.HttpRule, input protoreflect.MessageDescriptor) (*binding, error) {
	verb, path := verbAndPath(rule)
	if path == "" {
		return nil, fmt.Errorf("rest: a rule of %s has no path", input.FullName())
	}
	t, err := parseTemplate(path)
	if err != nil {
		return nil, err
	}
	b := &binding{verb: verb, template: t}
	for _, c := range t.captures {
		fields, err := resolve(input, c.name)
		if err != nil {
			return nil, fmt.Errorf("rest: %s: variable %s: %w", path, c.name, err)
		}
		if last := fields[len(fields)-1]; last.Kind() != protoreflect.StringKind || last.Cardinality() == protoreflect.Repeated {
			return nil, fmt.Errorf("rest: %s: variable %s is not a string field", path, c.name)
		}
		if len(fields) == 1 {
			b.bound = append(b.bound, fields[0].Name())
		}
	}
	switch body := rule.GetBody(); body {
	case "":
	case "*":
		b.body.whole = true
	default:
		b.body.field = input.Fields().ByName(protoreflect.Name(body))
		if b.body.field == nil || b.body.field.Message() == nil || b.body.field.Cardinality() == protoreflect.Repeated {
			return nil, fmt.Errorf("rest: %s: body %q is not a message field of %s", path, body, input.FullName())
		}
		b.bound = append(b.bound, b.body.field.Name())
	}
	return b, nil
}

func routeBinding(r Route) (*binding, error) {
	t, err := parseTemplate(r.Path)
	if err != nil {
		return nil, err
	}
	return &binding{template: t, envelope: r.Envelope, route: r.Handle}, nil
}

func verbAndPath(rule *annotations.HttpRule) (verb, path string) {
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return http.MethodGet, p.Get
	case *annotations.HttpRule_Put:
		return http.MethodPut, p.Put
	case *annotations.HttpRule_Post:
		return http.MethodPost, p.Post
	case *annotations.HttpRule_Delete:
		return http.MethodDelete, p.Delete
	case *annotations.HttpRule_Patch:
		return http.MethodPatch, p.Patch
	case *annotations.HttpRule_Custom:
		if p.Custom.GetKind() == "*" {
			return "", p.Custom.GetPath()
		}
		return p.Custom.GetKind(), p.Custom.GetPath()
	}
	return "", ""
}

// resolve returns the fields of a dotted path, in snake_case or camelCase.
func resolve(message protoreflect.MessageDescriptor, path string) ([]protoreflect.FieldDescriptor, error) {
	var fields []protoreflect.FieldDescriptor
	for name := range strings.SplitSeq(path, ".") {
		if message == nil {
			return nil, fmt.Errorf("%s is not a message", fields[len(fields)-1].Name())
		}
		field := message.Fields().ByJSONName(name)
		if field == nil {
			field = message.Fields().ByTextName(name)
		}
		if field == nil {
			return nil, fmt.Errorf("%s has no field %q", message.FullName(), name)
		}
		fields = append(fields, field)
		message = field.Message()
		if field.Cardinality() == protoreflect.Repeated {
			message = nil
		}
	}
	return fields, nil
}
