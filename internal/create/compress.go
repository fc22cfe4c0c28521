package create

import (
	"bytes"
	"compress/gzip"
	"sync"
)

var gzipWriters = sync.Pool{New: func() any {
	w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // a valid level: cannot fail
	return w
}}

// Compress returns body compressed by gzip, or false if that would not make
// it smaller.
func Compress(body []byte) ([]byte, bool) {
	w := gzipWriters.Get().(*gzip.Writer)
	defer gzipWriters.Put(w)
	out := bytes.NewBuffer(make([]byte, 0, len(body)/2))
	w.Reset(out)
	_, _ = w.Write(body) // a bytes.Buffer takes everything
	_ = w.Close()
	return out.Bytes(), out.Len() < len(body)
}
