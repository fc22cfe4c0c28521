package sqlstore

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"unicode/utf8"
)

// maxName keeps names well below what an index entry may hold (PostgreSQL's
// limit is 2704 bytes).
const maxName = 1024

// name is a string as a column holds it: itself, or a hash of it where the
// database could not take it. A "#" begins every hash and no other name.
func name(s string) string {
	if len(s) <= maxName && utf8.ValidString(s) && !strings.ContainsRune(s, 0) && !strings.HasPrefix(s, "#") {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return "#" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// bytesName is a string as a column of bytes holds it: itself, or a hash of it
// where it is too long.
func bytesName(s string) []byte {
	if len(s) <= maxName {
		return []byte(s)
	}
	return []byte(name(s))
}

// ownerOf is the owner of a lease in eight bytes.
func ownerOf(owner string) int64 {
	sum := sha256.Sum256([]byte(owner))
	return int64(binary.BigEndian.Uint64(sum[:]))
}
