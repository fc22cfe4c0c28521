package dashboard

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// payload is a body made readable.
type payload struct {
	Size int
	Form string // how it is shown: "JSON, indented", "text", "hexadecimal"
	Text string
	Cut  bool // there is more than is shown
}

const payloadShown = 64 << 10

func payloadOf(body []byte, contentType string) *payload {
	p := &payload{Size: len(body)}
	if inflated, ok := inflate(body); ok {
		p.Form = "gzip; "
		body = inflated
	}
	p.Cut = len(body) > payloadShown
	var indented bytes.Buffer
	switch {
	case len(body) == 0:
		p.Form += "empty"
	case !p.Cut && json.Indent(&indented, body, "", "  ") == nil && indented.Len() <= 4*payloadShown:
		p.Form += "JSON, indented"
		p.Text = indented.String()
	case utf8.Valid(body):
		p.Form += "text"
		p.Text = strings.ToValidUTF8(string(body[:min(len(body), payloadShown)]), "")
	default:
		p.Form += "hexadecimal"
		p.Cut = len(body) > payloadShown/4
		p.Text = hex.Dump(body[:min(len(body), payloadShown/4)])
	}
	if contentType != "" {
		p.Form += " (" + contentType + ")"
	}
	return p
}

// inflate returns what a body is without gzip, and no more of it than can be
// shown and told to be cut.
func inflate(body []byte) ([]byte, bool) {
	if !bytes.HasPrefix(body, []byte{0x1f, 0x8b}) {
		return nil, false
	}
	r, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, false
	}
	inflated, err := io.ReadAll(io.LimitReader(r, payloadShown+1))
	return inflated, err == nil
}

// headerLine is one line of a header.
type headerLine struct {
	Name, Value string
	Hidden      bool // it may hold credentials
}

func headerLines(h http.Header) []headerLine {
	var lines []headerLine
	for name, values := range h {
		for _, value := range values {
			if isCredential(name) {
				lines = append(lines, headerLine{Name: name, Hidden: true})
				continue
			}
			lines = append(lines, headerLine{Name: name, Value: value})
		}
	}
	slices.SortStableFunc(lines, func(a, b headerLine) int { return strings.Compare(a.Name, b.Name) })
	return lines
}

// isCredential goes by the name of a header, and hides too much rather than
// too little.
func isCredential(name string) bool {
	name = strings.ToLower(name)
	for _, part := range []string{"auth", "cookie", "token", "secret", "password", "api-key", "apikey", "credential", "signature"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}
