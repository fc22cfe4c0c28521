package engine

import "hash/maphash"

// store holds the tasks of a queue: by ID for lookups, and in order of
// creation for lists and retention.
type store struct {
	byHash  map[uint64]*task
	clashes map[string]*task // tasks whose hash was taken by another; all but always nil
	hash    func(id string) uint64

	peak int // tasks since the map was made

	rows []*row
	base uint64 // number of rows dropped from the front
	next uint64 // the sequence number of the next task
	n    int
}

// row is a stretch of consecutive sequence numbers. A row whose tasks are
// all gone is dropped, so a straggler holds on to one row, not to history.
type row struct {
	tasks [rowSize]*task
	live  int
}

const (
	rowBits = 7
	rowSize = 1 << rowBits
)

// Tasks are found by a hash rather than by their ID, so that the map holds
// no strings. The seed is random: nobody can choose IDs that collide.
var hashSeed = maphash.MakeSeed()

func hashID(id string) uint64 { return maphash.String(hashSeed, id) }

func newStore() store {
	return store{byHash: make(map[uint64]*task), hash: hashID}
}

func (s *store) find(id string, hash uint64) *task {
	if t := s.byHash[hash]; t != nil && t.id == id {
		return t
	}
	return s.clashes[id]
}

func (s *store) add(t *task, hash uint64) {
	if _, taken := s.byHash[hash]; !taken {
		s.byHash[hash] = t
	} else {
		if s.clashes == nil {
			s.clashes = make(map[string]*task)
		}
		s.clashes[t.id] = t
	}
	t.seq = s.next
	s.next++
	i := int(t.seq>>rowBits - s.base)
	if i == len(s.rows) {
		if i > 0 && s.rows[i-1].live == 0 {
			s.rows[i-1] = nil
		}
		s.rows = append(s.rows, new(row))
	}
	s.rows[i].tasks[t.seq%rowSize] = t
	s.rows[i].live++
	s.n++
	s.peak = max(s.peak, s.n)
}

func (s *store) remove(t *task, hash uint64) {
	if s.byHash[hash] == t {
		delete(s.byHash, hash)
	} else {
		delete(s.clashes, t.id)
	}
	i := int(t.seq>>rowBits - s.base)
	s.rows[i].tasks[t.seq%rowSize] = nil
	s.rows[i].live--
	s.n--
	if s.n == 0 && s.peak > rowSize {
		s.byHash, s.peak = make(map[uint64]*task), 0 // a map never shrinks
	}
	// The last row stays: it has room for the tasks to come.
	if s.rows[i].live == 0 && i < len(s.rows)-1 {
		s.rows[i] = nil
	}
	for s.rows[0] == nil {
		s.rows = s.rows[1:]
		s.base++
	}
}

// clear removes all tasks at once. Sequence numbers go on, at the next row, so
// that a list that is under way does. The hash is not touched: it is read
// without the queue's lock.
func (s *store) clear() {
	s.byHash, s.clashes, s.peak = make(map[uint64]*task), nil, 0
	s.base = (s.next + rowSize - 1) >> rowBits
	s.rows, s.next, s.n = nil, s.base<<rowBits, 0
}

// from returns the first task whose sequence number is seq or more.
func (s *store) from(seq uint64) *task {
	seq = max(seq, s.base<<rowBits)
	for ; seq < s.next; seq++ {
		r := s.rows[seq>>rowBits-s.base]
		if r == nil || r.live == 0 {
			seq |= rowSize - 1
			continue
		}
		if t := r.tasks[seq%rowSize]; t != nil {
			return t
		}
	}
	return nil
}
