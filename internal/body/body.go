// Package body reads request bodies: limited in size, decompressed if they came
// compressed, into buffers that are reused.
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
	// ErrTooLarge means that the body, as sent or decompressed, is over the limit.
	ErrTooLarge = errors.New("body is too large")

	// ErrEncoding means that the body does not match its Content-Encoding, or that
	// the encoding is neither identity nor gzip.
	ErrEncoding = errors.New("bad content encoding")

	// ErrConsumed means that the request has a body by its Content-Length, and
	// none that can be read.
	ErrConsumed = errors.New("the body was read before, by middleware around the router")
)

// Read returns the body of r, decompressed if its Content-Encoding is gzip. The
// limit holds for the compressed and for the decompressed size.
//
// With [ErrEncoding], and with [ErrTooLarge] of a decompressed body, it returns
// the body as it was sent. Another error than these and [ErrConsumed] is the
// connection's: the sender may be gone.
//
// The caller owns the bytes until it calls release, which it must do exactly
// once, also after an error.
func Read(r *http.Request, limit int) (b []byte, release func(), err error) {
	return read(r, limit, false)
}

// ReadDelivery is Read for a handler behind other people's middleware, which may
// have decompressed the body and left Content-Encoding as it was.
func ReadDelivery(r *http.Request, limit int) (b []byte, release func(), err error) {
	return read(r, limit, true)
}

func read(r *http.Request, limit int, decompressed bool) (b []byte, release func(), err error) {
	compressed, codingErr := isGzip(r.Header)
	if r.ContentLength > int64(limit) {
		return nil, func() {}, ErrTooLarge
	}
	if r.Body == nil || r.Body == http.NoBody {
		return nil, func() {}, codingErr
	}
	sent := borrow()
	if err := sent.fill(r.Body, int(r.ContentLength), limit); err != nil {
		return nil, sent.release, err
	}
	switch {
	case sent.Len() == 0 && r.ContentLength > 0:
		return nil, sent.release, ErrConsumed
	case codingErr != nil:
		return sent.Bytes(), sent.release, codingErr
	case !compressed || decompressed && !hasGzipHeader(sent.Bytes()):
		return sent.Bytes(), sent.release, nil
	}
	// Read all of it before decompressing, so that a broken connection cannot be
	// mistaken for a broken encoding.
	inflated := borrow()
	if err := inflated.inflate(sent.Bytes(), limit); err != nil {
		inflated.release()
		return sent.Bytes(), sent.release, err
	}
	sent.release()
	return inflated.Bytes(), inflated.release, nil
}

// hasGzipHeader reports whether a body begins as gzip does (RFC 1952 §2.3.1). An
// empty one counts as cut off.
func hasGzipHeader(b []byte) bool {
	return len(b) == 0 || bytes.HasPrefix(b, []byte{0x1f, 0x8b})
}

func isGzip(h http.Header) (bool, error) {
	values := h["Content-Encoding"]
	if len(values) == 0 {
		return false, nil
	}
	// A list of codings is refused: no task needs several.
	coding := strings.Trim(values[0], " \t")
	switch {
	case len(values) > 1:
	case coding == "", strings.EqualFold(coding, "identity"):
		return false, nil
	case strings.EqualFold(coding, "gzip"), strings.EqualFold(coding, "x-gzip"): // RFC 9110 §8.4.1.3
		return true, nil
	}
	return false, fmt.Errorf("%w: it is neither identity nor gzip", ErrEncoding)
}

// buffer holds its release function, so that returning it does not allocate.
type buffer struct {
	bytes.Buffer
	limited io.LimitedReader
	release func()
}

// keep is the largest capacity of a buffer that is reused. Larger ones are left
// to the garbage collector, so that one large task does not hold its memory for
// ever.
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

// fill reads src to its end. expected is its size, or negative if unknown.
func (b *buffer) fill(src io.Reader, expected, limit int) error {
	b.Grow(min(max(expected, 0), keep) + bytes.MinRead)
	b.limited = io.LimitedReader{R: src, N: min(int64(limit)+1, keep)}
	defer func() { b.limited.R = nil }()
	_, err := b.ReadFrom(&b.limited)
	if err == nil && b.Len() == keep && limit >= keep {
		// The beginning has arrived, so expected can be believed: make room for the
		// rest at once. Doubling would copy a large body several times.
		b.Grow(max(expected-keep, 0) + bytes.MinRead)
		b.limited.N = int64(limit) + 1 - keep
		_, err = b.ReadFrom(&b.limited)
	}
	if err != nil {
		// The limit of a middleware counts too.
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

func (b *buffer) inflate(compressed []byte, limit int) error {
	z := inflaters.Get().(*gzip.Reader)
	defer inflaters.Put(z)
	if err := z.Reset(bytes.NewReader(compressed)); err != nil {
		return fmt.Errorf("%w: %v", ErrEncoding, err)
	}
	if err := b.fill(z, 0, limit); errors.Is(err, ErrTooLarge) {
		return err
	} else if err != nil {
		return fmt.Errorf("%w: %v", ErrEncoding, errors.Unwrap(err))
	}
	return nil
}
