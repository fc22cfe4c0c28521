package oidc

// What only tests may see.
var (
	Object    = object
	Freshness = freshness
)

const Remembered = remembered

// Memory is a Verifier's memory, filled without signing thousands of tokens.
type Memory struct{ memory }

func (m *Memory) Put(token string)      { m.put(digestOf(token), verified{}) }
func (m *Memory) Has(token string) bool { _, ok := m.get(digestOf(token)); return ok }
func (m *Memory) Len() int              { return len(m.young) + len(m.old) }
