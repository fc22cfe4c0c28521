package create

import (
	"bytes"
	"encoding/json"
)

// Scratch is where one task after the other has its headers and body until they
// are in its request: of a task of 300 bytes they are a quarter of what there
// would be to collect.
type Scratch struct {
	Header [12]Field // handoff's own are ten at most

	body bytes.Buffer
}

// Marshal encodes a payload as JSON. The bytes are good until the next call.
func (s *Scratch) Marshal(payload any) ([]byte, error) {
	s.body.Reset()
	if err := json.NewEncoder(&s.body).Encode(payload); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(s.body.Bytes(), []byte{'\n'}), nil // which Encode adds
}
