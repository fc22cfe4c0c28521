package oidc

import (
	"encoding/json"
	"strconv"
	"strings"
)

// object parses the JSON object s and calls each with the name and the raw value
// of every member. It reports whether s is an object and each returned true for
// all of them.
//
// encoding/json would not do: it uses the last of two members with one name, and
// it matches names in any case ("ſ" equals "s"), so two readers of one token
// could see different claims. Here names must be plain ASCII without escapes.
// Everything object accepts is valid JSON.
func object(s string, each func(name, value string) bool) bool {
	s, ok := after(space(s), '{')
	if !ok {
		return false
	}
	if rest, ok := after(s, '}'); ok {
		return rest == ""
	}
	for {
		name, rest, ok := cutValue(s)
		if !ok || !plain(name) {
			return false
		}
		if s, ok = after(rest, ':'); !ok {
			return false
		}
		value, rest, ok := cutValue(s)
		if !ok || !each(name[1:len(name)-1], value) {
			return false
		}
		if s, ok = after(rest, ','); !ok {
			rest, ok = after(rest, '}')
			return ok && rest == ""
		}
	}
}

// after removes c, and the white space around it, from the start of s.
func after(s string, c byte) (string, bool) {
	if s == "" || s[0] != c {
		return "", false
	}
	return space(s[1:]), true
}

func space(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t' || s[0] == '\r' || s[0] == '\n') {
		s = s[1:]
	}
	return s
}

// cutValue splits s after its first JSON value and the white space that follows.
// Values other than plain strings and numbers are parsed by encoding/json.
func cutValue(s string) (value, rest string, ok bool) {
	if s != "" && s[0] == '"' { // the common case
		if end := 2 + strings.IndexByte(s[1:], '"'); plain(s[:end]) {
			return s[:end], space(s[end:]), true
		}
	}
	end, depth, quoted := 0, 0, false
	for ; end < len(s); end++ {
		switch c := s[end]; {
		case quoted && c == '\\':
			end++
		case c == '"':
			quoted = !quoted
			if !quoted && depth == 0 {
				return check(s, end+1)
			}
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth == 0 {
				return check(s, end)
			}
			if depth--; depth == 0 {
				return check(s, end+1)
			}
		case depth == 0 && (c == ',' || c == ':' || c == ' ' || c == '\t' || c == '\r' || c == '\n'):
			return check(s, end)
		}
	}
	return "", "", false
}

func check(s string, end int) (value, rest string, ok bool) {
	if end > len(s) {
		return "", "", false
	}
	value = s[:end]
	return value, space(s[end:]), plain(value) || value == "true" || value == "false" || number(value) || json.Valid([]byte(value))
}

// plain reports whether value is a string of printable ASCII without escapes.
func plain(value string) bool {
	if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
		return false
	}
	for i := 1; i < len(value)-1; i++ {
		if c := value[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// number reports whether value is a JSON integer that is not negative.
func number(value string) bool {
	for i := range len(value) {
		if value[i] < '0' || value[i] > '9' {
			return false
		}
	}
	return value != "" && (value[0] != '0' || value == "0")
}

// Each setter below stores a raw JSON value if it has the right type and the
// claim was not set before.

func setString(to *string, value string) bool {
	switch {
	case *to != "" || len(value) <= len(`""`):
		return false
	case plain(value):
		*to = value[1 : len(value)-1]
		return true
	}
	// Some encoders escape "=", so escapes are allowed in values.
	return value[0] == '"' && json.Unmarshal([]byte(value), to) == nil
}

func setTime(to *int64, value string) bool {
	if *to != 0 || !number(value) {
		return false
	}
	n, err := strconv.ParseInt(value, 10, 64)
	*to = n
	return err == nil && n > 0
}

func setBool(to *string, value string) bool {
	if *to != "" || (value != "true" && value != "false") {
		return false
	}
	*to = value
	return true
}
