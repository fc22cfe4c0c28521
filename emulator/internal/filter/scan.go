package filter

import (
	"errors"
	"fmt"
	"strings"
)

type kind int

const (
	end kind = iota
	word
	quoted
	operator
	symbol
)

type lexeme struct {
	kind kind
	text string
}

var operators = []string{"<=", ">=", "!=", "<", ">", "=", ":"}

// scan splits a filter into its tokens; the last one is always end.
func scan(text string) ([]lexeme, error) {
	var tokens []lexeme
	for {
		text = strings.TrimLeft(text, " \t\r\n")
		if text == "" {
			return append(tokens, lexeme{kind: end, text: "the end"}), nil
		}
		switch c := text[0]; {
		case c == '"':
			value, rest, err := unquote(text)
			if err != nil {
				return nil, err
			}
			tokens = append(tokens, lexeme{quoted, value})
			text = rest
		case c == '(' || c == ')' || c == '-' && !afterOperator(tokens):
			tokens = append(tokens, lexeme{symbol, text[:1]})
			text = text[1:]
		default:
			t := operatorOf(text)
			if t.text == "" {
				t = wordOf(text, afterOperator(tokens))
			}
			if t.text == "" {
				return nil, fmt.Errorf("unexpected %q", text[:1])
			}
			tokens = append(tokens, t)
			text = text[len(t.text):]
		}
	}
}

func afterOperator(tokens []lexeme) bool {
	return len(tokens) > 0 && tokens[len(tokens)-1].kind == operator
}

func operatorOf(text string) lexeme {
	for _, op := range operators {
		if strings.HasPrefix(text, op) {
			return lexeme{operator, op}
		}
	}
	return lexeme{}
}

// wordOf returns the field or unquoted value at the start of text. A value may
// also contain colons, as in times, and slashes, as in names.
func wordOf(text string, value bool) lexeme {
	stop := "()<>=!:\" \t\r\n"
	if value {
		stop = "()\" \t\r\n"
	}
	if i := strings.IndexAny(text, stop); i >= 0 {
		text = text[:i]
	}
	return lexeme{word, text}
}

func unquote(text string) (value, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return b.String(), text[i+1:], nil
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", errors.New("a quotation mark is not closed")
}
