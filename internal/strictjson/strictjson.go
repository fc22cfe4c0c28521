// Package strictjson refuses JSON that decoders disagree about or that costs far
// more than its length: encoding/json takes the last of two members with one name,
// matches names in any case, and replaces what is not UTF-8 by U+FFFD. Client and
// router both use it, so that what can be enqueued can be decoded.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"unicode/utf8"
)

const (
	// MaxDepth is how deep arrays and objects may nest. An unmarshaller that
	// calls encoding/json for each level takes quadratic time.
	MaxDepth = 1000

	// MaxNumber is the maximum length of a number, in bytes. Parsing one into
	// big.Int takes more than linear time.
	MaxNumber = 4096

	// MaxExponent is the maximum exponent of a number, positive or negative. The
	// memory of a big.Rat grows with the exponent.
	MaxExponent = 9999
)

var errSyntax = errors.New("not JSON")

// Check returns an error if text, which is to be decoded into a value of type t, is
// refused. It does not check the syntax: for text that is not JSON it may return
// nil, and json.Unmarshal returns the error. Errors quote nothing of the text.
//
// In a struct, a name is repeated if two members set the same field, even if they
// differ in case. Elsewhere, a name is repeated if two members have equal names.
func Check(text []byte, t reflect.Type) error {
	s := &scanner{text: text}
	if !utf8.Valid(text) {
		return s.refuse("bytes that are not UTF-8", invalidAt(text))
	}
	if err := s.value(t, 1); !errors.Is(err, errSyntax) {
		return err
	}
	return nil
}

func invalidAt(text []byte) int {
	at := 0
	for at < len(text) {
		r, size := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		at += size
	}
	return at
}

type scanner struct {
	text []byte
	at   int
}

func (s *scanner) refuse(what string, at int) error { return fmt.Errorf("%s at offset %d", what, at) }

// next skips white space and returns the byte that follows; 0 at the end.
func (s *scanner) next() byte {
	for s.at < len(s.text) {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return c
		}
	}
	return 0
}

// skip skips c and reports whether it was next.
func (s *scanner) skip(c byte) bool {
	if s.next() != c {
		return false
	}
	s.at++
	return true
}

func (s *scanner) value(t reflect.Type, depth int) error {
	c := s.next()
	if depth > MaxDepth && (c == '{' || c == '[') {
		return s.refuse(fmt.Sprintf("more than %d levels", MaxDepth), s.at)
	}
	switch {
	case c == '{':
		return s.object(t, depth)
	case c == '[':
		return s.array(elem(t), depth)
	case c == '"':
		_, err := s.string()
		return err
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	}
	for s.at < len(s.text) && s.text[s.at] >= 'a' && s.text[s.at] <= 'z' { // true, false, null
		s.at++
	}
	return nil
}

func (s *scanner) array(t reflect.Type, depth int) error {
	s.at++
	if s.skip(']') {
		return nil
	}
	for {
		if err := s.value(t, depth+1); err != nil {
			return err
		}
		if s.skip(']') {
			return nil
		}
		if !s.skip(',') {
			return errSyntax
		}
	}
}

func (s *scanner) object(t reflect.Type, depth int) error {
	s.at++
	if s.skip('}') {
		return nil
	}
	seen := members{fields: fieldsOf(t), set: make([]*field, 0, few)}
	unnamed := elem(t) // what no field takes, as in a map
	for {
		if s.next() != '"' {
			return errSyntax
		}
		at := s.at
		name, err := s.string()
		if err != nil {
			return err
		}
		field, ok := seen.add(name)
		if !ok {
			return s.refuse("a name that is repeated", at)
		}
		if !s.skip(':') {
			return errSyntax
		}
		of := unnamed
		if field != nil {
			of = field.t
		}
		if err := s.value(of, depth+1); err != nil {
			return err
		}
		if s.skip('}') {
			return nil
		}
		if !s.skip(',') {
			return errSyntax
		}
	}
}

// string returns the text of a string, without its escapes.
func (s *scanner) string() ([]byte, error) {
	start := s.at
	s.at++
	escaped := false
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case '"':
			s.at++
			raw := s.text[start:s.at]
			if !escaped {
				return raw[1 : len(raw)-1], nil
			}
			return s.unescape(raw, start)
		case '\\':
			escaped = true
			s.at++
		}
		s.at++
	}
	return nil, errSyntax
}

// unescape refuses half a surrogate pair, which encoding/json replaces by U+FFFD.
func (s *scanner) unescape(raw []byte, start int) ([]byte, error) {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		i++
		if raw[i] != 'u' {
			continue
		}
		switch r := unit(raw[i:]); {
		case r >= 0xD800 && r < 0xDC00 && i+5 < len(raw) && raw[i+5] == '\\':
			if low := unit(raw[i+6:]); low >= 0xDC00 && low < 0xE000 {
				i += 6
				continue
			}
			fallthrough
		case r >= 0xD800 && r < 0xE000:
			return nil, s.refuse("half a surrogate pair", start+i-1)
		}
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return nil, errSyntax
	}
	return []byte(text), nil
}

// unit returns the UTF-16 code unit of u followed by four hexadecimal digits; 0 if
// text is something else.
func unit(text []byte) rune {
	if len(text) < 5 || text[0] != 'u' {
		return 0
	}
	var r rune
	for _, c := range bytes.ToLower(text[1:5]) {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 + rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 + rune(c-'a') + 10
		default:
			return 0
		}
	}
	return r
}

func (s *scanner) number() error {
	start, exponent, digits := s.at, 0, false
scan:
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == 'e' || c == 'E':
			digits = true
		case c >= '0' && c <= '9':
			if digits && exponent <= MaxExponent {
				exponent = exponent*10 + int(c-'0')
			}
		case c == '+' || c == '-' || c == '.':
		default:
			break scan
		}
	}
	switch {
	case s.at-start > MaxNumber:
		return s.refuse(fmt.Sprintf("a number of more than %d bytes", MaxNumber), start)
	case exponent > MaxExponent:
		return s.refuse(fmt.Sprintf("an exponent over %d", MaxExponent), start)
	}
	return nil
}
