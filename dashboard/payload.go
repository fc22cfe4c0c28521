package dashboard

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// payload is a body in a readable form.
type payload struct {
	Size int
	Form string // how it is shown: "JSON, indented", "text", "hexadecimal"
	Text string
	Cut  bool // only the beginning is shown
}

const (
	payloadShown = 64 << 10
	indent       = "  "
	maxIndented  = 4 * payloadShown
)

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
	case !p.Cut && indentedSize(body) <= maxIndented && json.Indent(&indented, body, "", indent) == nil:
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

// indentedSize returns at least the size that json.Indent makes of body, which
// grows with the square of its depth: 10,000 brackets become 50 MB.
func indentedSize(body []byte) int {
	size, depth, inString, escaped := len(body), 0, false, false
	for _, c := range body {
		switch {
		case inString:
			inString = escaped || c != '"'
			escaped = c == '\\' && !escaped
			continue
		case c == '"':
			inString = true
			continue
		case c == ':':
			size++
			continue
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		case c != ',':
			continue
		}
		size += 1 + max(0, depth)*len(indent)
	}
	return size
}

// inflate returns the beginning of a decompressed body: one byte more than is
// shown, so that payloadOf knows whether it was cut.
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
	Hidden      bool // it may be a credential
}

func headerLines(h http.Header) []headerLine {
	var lines []headerLine
	for name, values := range h {
		for _, value := range values {
			if isCredential(name, value) {
				lines = append(lines, headerLine{Name: name, Hidden: true})
				continue
			}
			lines = append(lines, headerLine{Name: name, Value: value})
		}
	}
	slices.SortStableFunc(lines, func(a, b headerLine) int { return strings.Compare(a.Name, b.Name) })
	return lines
}

// credentialWords are parts of the names of headers that hold credentials: those
// of HTTP itself, those that platforms and proxies add (X-Goog-IAP-JWT-Assertion,
// X-Amzn-Oidc-Data, X-Ms-Client-Principal, X-Forwarded-Client-Cert), and those
// that people choose.
var credentialWords = []string{
	"access-key", "accesskey", "api-key", "apikey", "assertion", "auth", "bearer", "cert", "cookie", "credential", "csrf", "functions-key",
	"jwt", "oidc", "passwd", "password", "principal", "private-key", "saml", "secret", "session", "signature", "subscription-key", "token", "xsrf",
}

// credentialValue matches a header's value that is a credential whatever the name
// of the header is: an authentication scheme and what follows it, or a JWT.
var credentialValue = regexp.MustCompile(`^(?i:basic|bearer|digest|negotiate)\s+\S|^\s*eyJ[\w-]+\.[\w-]+\.`)

// isCredential reports whether a header may hold a credential. It hides too much
// rather than too little.
func isCredential(name, value string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc(credentialWords, func(word string) bool { return strings.Contains(name, word) }) ||
		credentialValue.MatchString(value)
}
