package redisstore

import (
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/brillconsulting/handoff"
)

// A letter is stored as JSON. Headers and error texts may hold bytes that are not
// UTF-8, which JSON cannot. Each such byte is stored as a rune at the end of
// Unicode's private use area. A rune of that range in the original text is stored
// byte by byte in the same way.
const (
	firstByteRune = 0x10ff00
	lastByteRune  = 0x10ffff
)

func encodeLetter(l handoff.DeadLetter) ([]byte, error) {
	return json.Marshal(mapTexts(l, escapeBytes))
}

func decodeLetter(text string) (l handoff.DeadLetter, err error) {
	if json.Unmarshal([]byte(text), &l) != nil {
		return l, errors.New("the stored value is not a dead letter") // the error must not quote it
	}
	return mapTexts(l, unescapeBytes), nil
}

// mapTexts returns l with fn applied to all its strings except header names.
func mapTexts(l handoff.DeadLetter, fn func(string) string) handoff.DeadLetter {
	for _, text := range []*string{&l.ID, &l.Task, &l.Queue, &l.Kind, &l.HandoffID, &l.Target, &l.LastErr, &l.Key, &l.Method, &l.ServiceAccount, &l.Audience} {
		*text = fn(*text)
	}
	header := make(map[string][]string, len(l.Header))
	for name, values := range l.Header {
		for _, v := range values {
			header[name] = append(header[name], fn(v))
		}
	}
	if l.Header != nil {
		l.Header = header
	}
	return l
}

func escapeBytes(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, isByteRune) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && size == 1 || isByteRune(r) {
			for _, c := range []byte(s[:size]) {
				b.WriteRune(firstByteRune + rune(c))
			}
		} else {
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String()
}

func unescapeBytes(s string) string {
	if !strings.ContainsFunc(s, isByteRune) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if isByteRune(r) {
			b.WriteByte(byte(r - firstByteRune))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func isByteRune(r rune) bool { return r >= firstByteRune && r <= lastByteRune }
