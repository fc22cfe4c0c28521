// Package body reads the body of a request: bounded before and while it is
// read, inflated where it came compressed, into buffers that are used again.
package body

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

var (
	// ErrTooLarge says that the body, as sent or inflated, is over the limit.
	ErrTooLarge = errors.New("body is too large")

	// ErrEncoding says that the body is not what its Content-Encoding claims,
	// or that the claim is not one of none, identity and gzip.
	ErrEncoding = errors.New("bad content encoding")
)

// Read returns the body of r, inflated if its Content-Encoding is gzip.
// Neither the bytes sent nor the inflated ones may be more than limit.
//
// The bytes are the caller's until it calls release, exactly once, also after
// an error. An error that is neither [ErrTooLarge] nor [ErrEncoding] came from
// the connection: the sender may well be gone.
func Read(r *http.Request, limit int) (b []byte, release func(), err error) {
	compressed, err := isGzip(r.Header)
	if err != nil {
		return nil, func() {}, err
	}
	if r.ContentLength > int64(limit) {
		return nil, func() {}, ErrTooLarge
	}
	if r.Body == nil || r.Body == http.NoBody {
		return nil, func() {}, nil
	}
	sent := borrow()
	if err := sent.fill(r.Body, int(r.ContentLength), limit); err != nil {
		return nil, sent.release, err
	}
	if !compressed {
		return sent.Bytes(), sent.release, nil
	}
	// All of it is here before any of it is inflated: so a broken connection
	// and a broken encoding cannot be mistaken for each other.
	defer sent.release()
	inflated := borrow()
	if err := inflated.inflate(sent, limit); err != nil {
		return nil, inflated.release, err
	}
	return inflated.Bytes(), inflated.release, nil
}

func isGzip(h http.Header) (bool, error) {
	values := h["Content-Encoding"]
	if len(values) == 0 {
		return false, nil
	}
	// A list names codings applied one over the other, which no task needs.
	coding := strings.Trim(values[0], " \t")
	switch {
	case len(values) > 1:
	case coding == "", strings.EqualFold(coding, "identity"):
		return false, nil
	case strings.EqualFold(coding, "gzip"), strings.EqualFold(coding, "x-gzip"): // RFC 9110 §8.4.1.3
		return true, nil
	}
	return false, fmt.Errorf("%w: it is none of identity and gzip", ErrEncoding)
}

// buffer keeps its own release as a value, so that handing it out allocates
// nothing.
type buffer struct {
	bytes.Buffer
	limited io.LimitedReader
	release func()
}

// keep is the capacity beyond which a buffer is left to the garbage collector:
// one large task must not pin its size for every small one after it.
const keep = 64 << 10

var buffers = sync.Pool{New: func() any { return new(buffer) }}

func borrow() *buffer {
	b := buffers.Get().(*buffer)
	if b.release == nil {
		b.release = b.giveBack
	}
	return b
}

func (b *buffer) giveBack() {
	if b.Cap() <= keep {
		b.Reset()
		buffers.Put(b)
	}
}

var inflaters = sync.Pool{New: func() any { return new(gzip.Reader) }}

// fill reads src to its end. The size it is expected to have saves growing; it
// is negative if nobody said.
func (b *buffer) fill(src io.Reader, expected, limit int) error {
	b.Grow(min(max(expected, 0), keep) + bytes.MinRead)
	b.limited = io.LimitedReader{R: src, N: min(int64(limit)+1, keep)}
	defer func() { b.limited.R = nil }()
	_, err := b.ReadFrom(&b.limited)
	if err == nil && b.Len() == keep && limit >= keep {
		// So much has come, so the rest may be believed and has its room made in
		// one step; doubling would copy a large body several times.
		b.Grow(max(expected-keep, 0) + bytes.MinRead)
		b.limited.N = int64(limit) + 1 - keep
		_, err = b.ReadFrom(&b.limited)
	}
	if err != nil {
		// A limit that somebody else put on the body is a limit all the same.
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return ErrTooLarge
		}
		return fmt.Errorf("read the body: %w", err)
	}
	if b.Len() > limit {
		return ErrTooLarge
	}
	return nil
}

func (b *buffer) inflate(compressed *buffer, limit int) error {
	z := inflaters.Get().(*gzip.Reader)
	defer inflaters.Put(z)
	if err := z.Reset(&compressed.Buffer); err != nil {
		return fmt.Errorf("%w: %v", ErrEncoding, err)
	}
	if err := b.fill(z, 0, limit); errors.Is(err, ErrTooLarge) {
		return err
	} else if err != nil {
		return fmt.Errorf("%w: %v", ErrEncoding, errors.Unwrap(err))
	}
	return nil
}
