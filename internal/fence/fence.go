// Package fence derives the names under which a piece of work is known: its
// key in a Store, and the ID of its task at the service. Both are hashes, so
// that neither shows what they were made of.
package fence

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
)

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
