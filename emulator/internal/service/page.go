package service

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"
)

// Paging limits (docs/cloud-tasks.md#3.2).
const (
	maxQueuesPage = 9800
	maxTasksPage  = 1000
	pageTokenLife = 2 * time.Hour
)

var errPageToken = invalid("Invalid page token.")

// pageSize is the number of items that a request asks for. What the
// service does out of range is unknown; here, as Google's API guidelines
// have it (AIP-158), too many is the maximum and a negative number an error.
func pageSize(asked int32, limit int) (int, error) {
	switch {
	case asked < 0:
		return 0, invalid("Page size must not be negative.")
	case asked == 0 || int(asked) > limit:
		return limit, nil
	}
	return int(asked), nil
}

// pager seals page tokens: where the next page begins, for which request,
// until when. Nothing is kept in the server.
type pager struct{ key []byte }

func newPager() pager {
	key := make([]byte, 32)
	rand.Read(key)
	return pager{key}
}

const macSize = 16

// seal makes the token for the page that begins at position. scope is what
// must be the same between two pages: the method, the parent, the filter.
func (p pager) seal(position string, now time.Time, scope ...string) string {
	token := binary.BigEndian.AppendUint64(nil, uint64(now.Add(pageTokenLife).Unix()))
	token = append(token, position...)
	token = append(token, p.mac(token, scope)...)
	return base64.RawURLEncoding.EncodeToString(token)
}

// open returns the position of a token, or an error for one that is
// expired, foreign or made up.
func (p pager) open(token string, now time.Time, scope ...string) (string, error) {
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) < 8+macSize {
		return "", errPageToken
	}
	body, mac := raw[:len(raw)-macSize], raw[len(raw)-macSize:]
	if !hmac.Equal(mac, p.mac(body, scope)) {
		return "", errPageToken
	}
	if now.Unix() >= int64(binary.BigEndian.Uint64(body)) {
		return "", errPageToken
	}
	return string(body[8:]), nil
}

func (p pager) mac(body []byte, scope []string) []byte {
	h := hmac.New(sha256.New, p.key)
	h.Write(body)
	h.Write([]byte("\x00" + strings.Join(scope, "\x00")))
	return h.Sum(nil)[:macSize]
}
