package create

import "google.golang.org/grpc/mem"

// Unmarshal is for the tests of the reading of answers.
func Unmarshal(message []byte, v any, found func(id, name []byte)) error {
	return codec{found: found}.Unmarshal(mem.BufferSlice{mem.SliceBuffer(message)}, v)
}
