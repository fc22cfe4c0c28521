package rest

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// template is a compiled google.api.http path template:
//
//	Template = "/" Segments [ ":" Verb ]
//	Segments = Segment { "/" Segment }
//	Segment  = "*" | "**" | LITERAL | "{" FieldPath [ "=" Segments ] "}"
//
// "**" is allowed only at the end. Beyond this grammar an empty last segment is
// allowed, because gcloud calls BufferTask as "tasks/:buffer".
type template struct {
	text     string
	segments []string
	verb     string // with its colon, or empty
	captures []capture
}

// capture is a variable of a template: the half-open range of its segments.
type capture struct {
	name     string
	from, to int
}

// variable is the value of a capture in a path.
type variable struct {
	name  string
	value string
}

func (t *template) String() string { return t.text }

func parseTemplate(text string) (*template, error) {
	t := &template{text: text}
	rest, ok := strings.CutPrefix(text, "/")
	if !ok {
		return nil, fmt.Errorf("rest: path template %q does not begin with a slash", text)
	}
	// A verb follows the last segment. A colon inside braces does not begin one.
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.ContainsAny(rest[i:], "/}") {
		rest, t.verb = rest[:i], rest[i:]
	}
	for {
		var err error
		if strings.HasPrefix(rest, "{") {
			rest, err = t.variable(rest[1:])
		} else {
			rest = t.segment(rest)
		}
		if err != nil {
			return nil, fmt.Errorf("rest: path template %q: %w", text, err)
		}
		if rest == "" {
			break
		}
		if rest[0] != '/' {
			return nil, fmt.Errorf("rest: path template %q: want a slash at %q", text, rest)
		}
		rest = rest[1:]
		if rest == "" {
			t.segments = append(t.segments, "")
			break
		}
	}
	for i, s := range t.segments {
		if s == "**" && i != len(t.segments)-1 {
			return nil, fmt.Errorf("rest: path template %q: ** is allowed at the end only", text)
		}
	}
	return t, nil
}

// segment parses one segment and returns the rest of the text.
func (t *template) segment(text string) string {
	end := strings.IndexByte(text, '/')
	if end < 0 {
		end = len(text)
	}
	t.segments = append(t.segments, text[:end])
	return text[end:]
}

// variable parses "name=segments}", after the opening brace, and returns the
// rest of the text.
func (t *template) variable(text string) (string, error) {
	inner, after, ok := strings.Cut(text, "}")
	if !ok {
		return "", errors.New("a brace is not closed")
	}
	name, pattern, ok := strings.Cut(inner, "=")
	if !ok {
		pattern = "*"
	}
	if name == "" || pattern == "" || strings.Contains(pattern, "{") {
		return "", fmt.Errorf("bad variable {%s}", inner)
	}
	from := len(t.segments)
	t.segments = append(t.segments, strings.Split(pattern, "/")...)
	t.captures = append(t.captures, capture{name: name, from: from, to: len(t.segments)})
	return after, nil
}

// match matches an escaped path and returns its variables. A colon in the last
// segment begins a verb, which only a template with a verb matches.
func (t *template) match(path string) ([]variable, bool) {
	path, ok := strings.CutPrefix(path, "/")
	if !ok {
		return nil, false
	}
	if t.verb != "" {
		if path, ok = strings.CutSuffix(path, t.verb); !ok {
			return nil, false
		}
	} else if strings.Contains(path[strings.LastIndexByte(path, '/')+1:], ":") {
		return nil, false
	}
	n := strings.Count(path, "/") + 1
	last := len(t.segments) - 1
	many := t.segments[last] == "**"
	if n != len(t.segments) && (!many || n < last) {
		return nil, false
	}
	parts := strings.Split(path, "/")
	for i, want := range t.segments {
		switch {
		case want == "**":
		case want == "*":
			if parts[i] == "" {
				return nil, false
			}
		case parts[i] != want:
			return nil, false
		}
	}
	return t.capture(parts)
}

func (t *template) capture(parts []string) ([]variable, bool) {
	vars := make([]variable, len(t.captures))
	for i, c := range t.captures {
		to := c.to
		if t.segments[to-1] == "**" {
			to = len(parts)
		}
		multi := to-c.from > 1 || t.segments[c.to-1] == "**"
		values := make([]string, 0, to-c.from)
		for _, part := range parts[c.from:to] {
			value, err := unescape(part, multi)
			if err != nil {
				return nil, false
			}
			values = append(values, value)
		}
		vars[i] = variable{name: c.name, value: strings.Join(values, "/")}
	}
	return vars, true
}

// unescape decodes one segment. In a variable of several segments an escaped
// slash stays escaped, so that it differs from a separator (google.api.http,
// "Path template syntax").
func unescape(part string, multi bool) (string, error) {
	if multi {
		part = escapedSlashes.Replace(part)
	}
	return url.PathUnescape(part)
}

var escapedSlashes = strings.NewReplacer("%2F", "%252F", "%2f", "%252f")
