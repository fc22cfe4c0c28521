package oidc

import (
	"crypto/sha256"
	"sync"
	"time"
)

// remembered is the most tokens a memory holds, about 2 MB.
const remembered = 8192

// digest identifies a remembered token, so that the token itself is not kept in
// memory.
type digest [sha256.Size]byte

func digestOf(token string) digest {
	var buf [2 << 10]byte // longer than any real token, so that hashing one does not allocate
	return sha256.Sum256(append(buf[:0], token...))
}

// verified is the result for a valid token. It holds until the token expires, or
// until the keys it was verified with are replaced or no longer fresh.
type verified struct {
	identity Identity
	keys     *Keys
	until    time.Time
}

// memory holds verified tokens in two maps, young and old. When young holds half
// of the limit it becomes old, and the old one is dropped. Tokens in recent use
// stay, without any bookkeeping on a lookup.
type memory struct {
	mu         sync.Mutex
	young, old map[digest]verified
}

func (m *memory) get(d digest) (verified, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.young[d]
	if !ok {
		if v, ok = m.old[d]; ok {
			m.add(d, v)
		}
	}
	return v, ok
}

func (m *memory) put(d digest, v verified) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(d, v)
}

func (m *memory) add(d digest, v verified) {
	if m.young == nil || len(m.young) >= remembered/2 {
		m.old, m.young = m.young, make(map[digest]verified)
	}
	m.young[d] = v
}
