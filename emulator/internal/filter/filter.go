// Package filter parses the filters of ListQueues: comparisons of fields in the
// syntax of Cloud Logging's advanced filters (docs/cloud-tasks.md#3.2), such as
//
//	state: PAUSED AND rateLimits.maxDispatchesPerSecond >= 10
//
// Comparisons are combined by AND (the default between two of them), OR, and NOT
// or -, and grouped by parentheses. OR binds tighter than AND, as in Cloud
// Logging.
package filter

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Func reports whether a message matches.
type Func func(proto.Message) bool

// maxDepth and maxLength keep a malicious filter from exhausting the stack.
const (
	maxDepth  = 50
	maxLength = 20000
)

// Parse parses a filter for messages of this type. The empty filter matches
// every message.
func Parse(text string, message protoreflect.MessageDescriptor) (Func, error) {
	if len(text) > maxLength {
		return nil, fmt.Errorf("filter is longer than %d characters", maxLength)
	}
	tokens, err := scan(text)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens, message: message}
	if p.peek().kind == end {
		return func(proto.Message) bool { return true }, nil
	}
	match, err := p.conjunction(0)
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != end {
		return nil, fmt.Errorf("unexpected %q", t.text)
	}
	return func(m proto.Message) bool { return match(m.ProtoReflect()) }, nil
}

type predicate func(protoreflect.Message) bool

type parser struct {
	tokens  []lexeme
	message protoreflect.MessageDescriptor
}

func (p *parser) peek() lexeme { return p.tokens[0] }

func (p *parser) next() lexeme {
	t := p.tokens[0]
	if t.kind != end {
		p.tokens = p.tokens[1:]
	}
	return t
}

func (p *parser) keyword(text string) bool {
	if t := p.peek(); t.kind == word && t.text == text {
		p.next()
		return true
	}
	return false
}

func (p *parser) conjunction(depth int) (predicate, error) {
	if depth > maxDepth {
		return nil, errors.New("filter is nested too deeply")
	}
	all, err := p.disjunction(depth)
	if err != nil {
		return nil, err
	}
	for {
		explicit := p.keyword("AND")
		if t := p.peek(); !explicit && (t.kind == end || t.text == ")" && t.kind == symbol) {
			return all, nil
		}
		left := all
		right, err := p.disjunction(depth)
		if err != nil {
			return nil, err
		}
		all = func(m protoreflect.Message) bool { return left(m) && right(m) }
	}
}

func (p *parser) disjunction(depth int) (predicate, error) {
	anyOf, err := p.term(depth)
	if err != nil {
		return nil, err
	}
	for p.keyword("OR") {
		left := anyOf
		right, err := p.term(depth)
		if err != nil {
			return nil, err
		}
		anyOf = func(m protoreflect.Message) bool { return left(m) || right(m) }
	}
	return anyOf, nil
}

func (p *parser) term(depth int) (predicate, error) {
	negate := false
	for p.keyword("NOT") || p.symbol("-") {
		negate = !negate
	}
	var match predicate
	var err error
	if p.symbol("(") {
		if match, err = p.conjunction(depth + 1); err != nil {
			return nil, err
		}
		if !p.symbol(")") {
			return nil, errors.New(`a "(" is not closed`)
		}
	} else if match, err = p.comparison(); err != nil {
		return nil, err
	}
	if negate {
		return func(m protoreflect.Message) bool { return !match(m) }, nil
	}
	return match, nil
}

func (p *parser) symbol(text string) bool {
	if t := p.peek(); t.kind == symbol && t.text == text {
		p.next()
		return true
	}
	return false
}

func (p *parser) comparison() (predicate, error) {
	name := p.next()
	if name.kind != word {
		return nil, fmt.Errorf("expected a field, found %q", name.text)
	}
	path, err := resolve(p.message, name.text)
	if err != nil {
		return nil, err
	}
	op := p.next()
	if op.kind != operator {
		return nil, fmt.Errorf("expected a comparison after %q, found %q", name.text, op.text)
	}
	value := p.next()
	if value.kind != word && value.kind != quoted {
		return nil, fmt.Errorf("expected a value after %q, found %q", name.text+op.text, value.text)
	}
	return compile(path, op.text, value)
}

// resolve returns the fields of a dotted path, in snake_case or camelCase.
func resolve(m protoreflect.MessageDescriptor, path string) ([]protoreflect.FieldDescriptor, error) {
	var fields []protoreflect.FieldDescriptor
	for part := range strings.SplitSeq(path, ".") {
		if m == nil {
			return nil, fmt.Errorf("unknown field %q", path)
		}
		fd := m.Fields().ByName(protoreflect.Name(part))
		if fd == nil {
			fd = m.Fields().ByJSONName(part)
		}
		if fd == nil {
			return nil, fmt.Errorf("unknown field %q", path)
		}
		fields = append(fields, fd)
		m = nil
		if !fd.IsList() && !fd.IsMap() {
			m = fd.Message()
		}
	}
	return fields, nil
}
