// Package fence makes the names of a piece of work: its ID, its key in a Store,
// and the ID of its task. They are random, or hashes that do not reveal what
// they were made of.
package fence

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
)

// keyLen is the length of 128 bits in base64.
const keyLen = 22

// NewID returns the ID of a new piece of work: 110 random bits, in the length
// of a key.
func NewID() string { return rand.Text()[:keyLen] }

// IDKey returns the key of the work with this ID: the ID itself if it came from
// NewID or Key, else its hash.
func IDKey(id string) string {
	if len(id) == keyLen {
		return id
	}
	return Key("id", id)
}

// Work is what makes keyed work one piece of work. Its fence key and the name
// of its task are hashes of all of it.
type Work struct {
	Project string // of the queue; neither location nor queue counts
	Kind    string // the oldest name of the payload's type; empty for a request
	Method  string // of a request
	URL     string // of a request, with its query
	Key     string
	Period  string // of work that recurs; empty otherwise
}

// FenceKey returns the key of w in a Store.
func (w Work) FenceKey() string { return Key("key", w.parts()...) }

// TaskID returns the ID of the task of w.
func (w Work) TaskID() string { return TaskID("key", w.parts()...) }

func (w Work) parts() []string {
	return []string{w.Project, w.Kind, w.Method, w.URL, w.Key, w.Period}
}

// Key hashes parts to the 128-bit key of a piece of work in a Store.
func Key(domain string, parts ...string) string {
	sum := digest(domain, parts)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// TaskID hashes parts to the ID of a task. It has the full width of the hash,
// because two pieces of work with one ID would lose one of them.
func TaskID(domain string, parts ...string) string {
	sum := digest("name:"+domain, parts)
	return hex.EncodeToString(sum[:])
}

// The domain and the length before each part keep ("a","bc") and ("ab","c"),
// or a key and an ID that read alike, apart.
func digest(domain string, parts []string) [sha256.Size]byte {
	var buf [512]byte
	b := append(buf[:0], domain...)
	for _, p := range parts {
		b = binary.AppendUvarint(b, uint64(len(p)))
		b = append(b, p...)
	}
	return sha256.Sum256(b)
}
