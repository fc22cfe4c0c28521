package oidc

import (
	"crypto/sha256"
	"sync"
	"time"
)

// remembered bounds how many tokens a memory holds: about 2 MB.
const remembered = 8192

// digest stands for a token in memory, so that the token itself is not kept.
type digest [sha256.Size]byte

func digestOf(token string) digest {
	var buf [2 << 10]byte // of real tokens none is longer, so none is copied to the heap
	return sha256.Sum256(append(buf[:0], token...))
}

// verified is what a good token proved, for as long as that holds: until it
// expires or the keys it was verified with are no longer fresh or in use.
type verified struct {
	identity Identity
	keys     *Keys
	until    time.Time
}

// memory holds verified tokens in two generations. When the young one is half
// of all it becomes the old one and the old one goes: so what was asked for
// lately stays, at no bookkeeping per lookup.
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
