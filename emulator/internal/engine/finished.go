package engine

import (
	"encoding/binary"
	"time"
)

// finished is a task that has ended, encoded: there are thousands, nearly none
// of which is ever looked at.
type finished struct {
	data []byte // the ID, then what told reads; part of a page
	life *life  // nil, unless attempts of it were running
}

// finish encodes a task at the end of the page.
func (h *history) finish(t *task, now int64, how End) finished {
	if cap(h.page)-len(h.page) < finishedBytes {
		h.page = make([]byte, 0, pageBytes)
	}
	begin := len(h.page)
	h.page = appendText(h.page, string(t.id()))
	h.page = binary.AppendVarint(h.page, t.created)
	h.page = binary.AppendVarint(h.page, now-t.created)
	h.page = appendText(h.page, string(how))
	var f finished
	if t.life.running > 0 {
		f.life = t.life
	} else {
		h.page = t.life.append(h.page)
	}
	f.data = h.page[begin:]
	return f
}

func (f *finished) is(id string) bool {
	n, w := binary.Uvarint(f.data)
	return string(f.data[w:w+int(n)]) == id
}

func (f *finished) told() Life {
	r := reader{f.data}
	id, created := r.text(), r.number()
	ended, how := created+r.number(), End(r.text())
	l := f.life
	if l == nil {
		l = r.life()
	}
	told := lifeOf(id, created, l)
	told.Ended, told.How = time.Unix(0, ended), how
	return told
}

func (l *life) append(data []byte) []byte {
	data = binary.AppendVarint(data, int64(l.dispatches))
	data = appendText(data, l.target)
	data = binary.AppendVarint(data, int64(len(l.attempts)))
	for _, a := range l.attempts {
		data = binary.AppendVarint(data, a.Schedule.UnixNano())
		data = binary.AppendVarint(data, int64(a.Dispatch.Sub(a.Schedule)))
		took := time.Duration(-1)
		if !a.Response.IsZero() {
			took = max(0, a.Response.Sub(a.Dispatch)) // a clock that was set back
		}
		data = binary.AppendVarint(data, int64(took))
		data = binary.AppendVarint(data, int64(a.Status))
		timeout := int64(0)
		if a.Timeout {
			timeout = 1
		}
		data = binary.AppendVarint(data, timeout)
		data = appendText(data, a.Failure)
		data = binary.AppendVarint(data, int64(a.RetryAfter))
	}
	return data
}

func appendText(data []byte, text string) []byte {
	return append(binary.AppendUvarint(data, uint64(len(text))), text...)
}

// reader reads what was appended, in the same order.
type reader struct{ data []byte }

func (r *reader) number() int64 {
	v, w := binary.Varint(r.data)
	r.data = r.data[w:]
	return v
}

func (r *reader) text() string {
	n, w := binary.Uvarint(r.data)
	text := string(r.data[w : w+int(n)])
	r.data = r.data[w+int(n):]
	return text
}

func (r *reader) life() *life {
	l := &life{dispatches: int32(r.number()), target: r.text()}
	for range r.number() {
		a := Record{Schedule: time.Unix(0, r.number())}
		a.Dispatch = a.Schedule.Add(time.Duration(r.number()))
		if took := time.Duration(r.number()); took >= 0 {
			a.Response = a.Dispatch.Add(took)
		}
		a.Status, a.Timeout, a.Failure = int(r.number()), r.number() == 1, r.text()
		a.RetryAfter = time.Duration(r.number())
		l.attempts = append(l.attempts, a)
	}
	return l
}
