package rpc

import (
	"errors"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// An entry of a map is encoded as a message with the key as field 1 and the
// value as field 2.
const (
	keyOfEntry   protowire.Number = 1
	valueOfEntry protowire.Number = 2
)

// SizeEntry is the size of an entry of a map<string, string>.
func SizeEntry(number protowire.Number, key, value string) int {
	return protowire.SizeTag(number) + protowire.SizeBytes(sizeInEntry(key, value))
}

func sizeInEntry(key, value string) int {
	return protowire.SizeTag(keyOfEntry) + protowire.SizeBytes(len(key)) +
		protowire.SizeTag(valueOfEntry) + protowire.SizeBytes(len(value))
}

// AppendEntry appends such an entry. Like proto.Marshal it refuses strings that
// are not valid UTF-8.
func AppendEntry(b []byte, number protowire.Number, key, value string) ([]byte, error) {
	if !utf8.ValidString(key) || !utf8.ValidString(value) {
		return nil, errors.New("a map contains invalid UTF-8")
	}
	b = protowire.AppendTag(b, number, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(sizeInEntry(key, value)))
	b = protowire.AppendTag(b, keyOfEntry, protowire.BytesType)
	b = protowire.AppendString(b, key)
	b = protowire.AppendTag(b, valueOfEntry, protowire.BytesType)
	return protowire.AppendString(b, value), nil
}
