// Package fence makes the names under which a piece of work is known: its ID,
// its key in a Store, and the ID of its task at the service. They are random or
// hashes, so that none shows what it was made of.
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

// IDKey returns the key of the work of an ID: the ID itself if it came from
// NewID or Key, as it is as good as a hash of it.
func IDKey(id string) string {
	if len(id) == keyLen {
		return id
	}
	return Key("id", id)
}

// Key hashes parts into the 128 bits that name a piece of work in a Store.
func Key(domain string, parts ...string) string {
	sum := digest(domain, parts)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// TaskID hashes parts to the ID of a task: the full width of the hash, because
// an ID that two pieces of work share would lose one of them.
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
