package body_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/body"
)

func gzipped(t testing.TB, plain string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := io.WriteString(w, plain)
	assert.NoError(t, err)
	assert.NoError(t, w.Close())
	return b.String()
}

func deflated(t testing.TB, plain string) string {
	t.Helper()
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	_, err := io.WriteString(w, plain)
	assert.NoError(t, err)
	assert.NoError(t, w.Close())
	return b.String()
}

func TestRead(t *testing.T) {
	t.Parallel()
	const limit = 1 << 10
	plain := `{"user_id":"42"}`
	full := strings.Repeat("x", limit)
	zipped := gzipped(t, plain)
	flipped := []byte(zipped)
	flipped[len(flipped)-5] ^= 1 // in the checksum
	for name, tc := range map[string]struct {
		body    string
		coding  []string
		chunked bool // no Content-Length
		want    string
		err     error
	}{
		"plain":                    {body: plain, want: plain},
		"plain, chunked":           {body: plain, chunked: true, want: plain},
		"identity":                 {body: plain, coding: []string{"identity"}, want: plain},
		"empty coding":             {body: plain, coding: []string{""}, want: plain},
		"nothing":                  {},
		"exactly the limit":        {body: full, want: full},
		"exactly, chunked":         {body: full, chunked: true, want: full},
		"one over":                 {body: full + "x", err: body.ErrTooLarge},
		"one over, chunked":        {body: full + "x", chunked: true, err: body.ErrTooLarge},
		"gzip":                     {body: zipped, coding: []string{"gzip"}, want: plain},
		"gzip, chunked":            {body: zipped, coding: []string{"gzip"}, chunked: true, want: plain},
		"gzip in capitals":         {body: zipped, coding: []string{"GZIP"}, want: plain},
		"gzip by its old name":     {body: zipped, coding: []string{"x-gzip"}, want: plain},
		"gzip between spaces":      {body: zipped, coding: []string{" gzip\t"}, want: plain},
		"gzip, two members":        {body: zipped + zipped, coding: []string{"gzip"}, want: plain + plain},
		"gzip, exactly":            {body: gzipped(t, full), coding: []string{"gzip"}, want: full},
		"gzip, one over":           {body: gzipped(t, full+"x"), coding: []string{"gzip"}, err: body.ErrTooLarge},
		"gzip bomb":                {body: gzipped(t, strings.Repeat("0", 500<<10)), coding: []string{"gzip"}, err: body.ErrTooLarge},
		"gzip, members over":       {body: gzipped(t, full) + zipped, coding: []string{"gzip"}, err: body.ErrTooLarge},
		"gzip, not compressed":     {body: plain, coding: []string{"gzip"}, err: body.ErrEncoding},
		"gzip of nothing":          {body: gzipped(t, ""), coding: []string{"gzip"}},
		"gzip, no bytes":           {body: "", chunked: true, coding: []string{"gzip"}, err: body.ErrEncoding},
		"gzip cut short":           {body: zipped[:len(zipped)-3], coding: []string{"gzip"}, err: body.ErrEncoding},
		"gzip, bad checksum":       {body: string(flipped), coding: []string{"gzip"}, err: body.ErrEncoding},
		"gzip, bytes after it":     {body: zipped + "GET / HTTP/1.1", coding: []string{"gzip"}, err: body.ErrEncoding},
		"gzip over gzip":           {body: gzipped(t, zipped), coding: []string{"gzip, gzip"}, err: body.ErrEncoding},
		"gzip, said twice":         {body: zipped, coding: []string{"gzip", "gzip"}, err: body.ErrEncoding},
		"gzip, one level undone":   {body: gzipped(t, zipped), coding: []string{"gzip"}, want: zipped},
		"deflate":                  {body: deflated(t, plain), coding: []string{"deflate"}, err: body.ErrEncoding},
		"a coding unknown here":    {body: plain, coding: []string{"br"}, err: body.ErrEncoding},
		"compressed over the size": {body: full + zipped, coding: []string{"gzip"}, err: body.ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var src io.Reader = strings.NewReader(tc.body)
			if tc.chunked {
				src = iotest.OneByteReader(src)
			}
			r := httptest.NewRequest(http.MethodPost, "/", src)
			r.Header["Content-Encoding"] = tc.coding
			got, release, err := body.Read(r, limit)
			defer release()
			if !errors.Is(err, tc.err) {
				t.Fatalf("error: %v, want %v", err, tc.err)
			}
			if tc.err == nil {
				assert.Equal(t, string(got), tc.want)
			}
			if errors.Is(tc.err, body.ErrEncoding) {
				assert.Equal(t, string(got), tc.body) // as it was sent
			}
		})
	}
}

// Middleware that decompresses a body may leave Content-Encoding as it was.
func TestReadDelivery(t *testing.T) {
	t.Parallel()
	const plain = `{"user_id":"42"}`
	for _, sent := range []string{plain, gzipped(t, plain)} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(sent))
		r.Header.Set("Content-Encoding", "gzip")
		got, release, err := body.ReadDelivery(r, 100)
		assert.NoError(t, err)
		assert.Equal(t, string(got), plain)
		release()
	}
}

func TestReadFindsABodyThatWasRead(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}"))
	_, err := io.Copy(io.Discard, r.Body)
	assert.NoError(t, err)
	_, release, err := body.Read(r, 100)
	release()
	assert.ErrorIs(t, err, body.ErrConsumed)
}

// unread fails the test when it is read: a length that is over the limit must
// be refused before a byte is.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

func TestReadRefusesByLengthAlone(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest(http.MethodPost, "/", unread{t})
	r.ContentLength = 11
	_, release, err := body.Read(r, 10)
	release()
	assert.ErrorIs(t, err, body.ErrTooLarge)
}

func TestReadTellsTheConnectionFromTheEncoding(t *testing.T) {
	t.Parallel()
	for _, coding := range []string{"identity", "gzip"} {
		zipped := gzipped(t, "whatever")
		src := io.MultiReader(strings.NewReader(zipped[:5]), iotest.ErrReader(io.ErrUnexpectedEOF))
		r := httptest.NewRequest(http.MethodPost, "/", src)
		r.Header.Set("Content-Encoding", coding)
		_, release, err := body.Read(r, 100)
		release()
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
		if errors.Is(err, body.ErrEncoding) || errors.Is(err, body.ErrTooLarge) {
			t.Fatalf("%s: a broken connection was taken for a broken body: %v", coding, err)
		}
	}
}

func TestReadHonoursALimitThatSomebodyElsePut(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest(http.MethodPost, "/", iotest.OneByteReader(strings.NewReader("0123456789")))
	r.Body = http.MaxBytesReader(httptest.NewRecorder(), r.Body, 5)
	_, release, err := body.Read(r, 100)
	release()
	assert.ErrorIs(t, err, body.ErrTooLarge)
}

// Buffers are used again, so two readers at once must never see each other's bytes.
func TestReadSharesNothing(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			plain := strings.Repeat(string(rune('a'+i)), 10_000+i)
			zipped := gzipped(t, plain)
			for n := range 200 {
				sent, coding := plain, ""
				if n%2 == 0 {
					sent, coding = zipped, "gzip"
				}
				r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(sent))
				r.Header.Set("Content-Encoding", coding)
				got, release, err := body.Read(r, 1<<20)
				if err != nil || string(got) != plain {
					t.Errorf("got %d bytes and error %v, want the %d sent", len(got), err, len(plain))
				}
				release()
			}
		})
	}
	wg.Wait()
}

// Around the size from which on a buffer is not kept, and with a length that was
// not told.
func TestReadLargeBodies(t *testing.T) {
	t.Parallel()
	const keep = 64 << 10
	for _, size := range []int{keep - 1, keep, keep + 1, 3 * keep, 1 << 20} {
		for _, told := range []bool{true, false} {
			sent := strings.Repeat("0123456789abcde\n", size/16+1)[:size]
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(sent))
			if !told {
				r.ContentLength = -1
			}
			for _, limit := range []int{size, 1 << 20, size - 1} {
				r.Body = io.NopCloser(strings.NewReader(sent))
				got, release, err := body.Read(r, limit)
				if limit < size {
					assert.ErrorIs(t, err, body.ErrTooLarge)
				} else if assert.NoError(t, err); string(got) != sent {
					t.Errorf("%d of %d bytes, or others", len(got), size)
				}
				release()
			}
		}
	}
}

// counted counts the reads. Each takes as much as there is room for.
type counted struct {
	io.Reader

	reads int
}

func (c *counted) Read(p []byte) (int, error) {
	c.reads++
	return c.Reader.Read(p)
}

// A large body whose length was told is read into room for its beginning, and
// then into room for all of it.
func TestReadGrowsOnce(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	src := &counted{Reader: strings.NewReader(strings.Repeat("x", size))}
	r := httptest.NewRequest(http.MethodPost, "/", io.NopCloser(src))
	r.ContentLength = size
	_, release, err := body.Read(r, size)
	release()
	assert.NoError(t, err)
	if src.reads > 3 { // the third finds the end
		t.Errorf("%d reads", src.reads)
	}
}

func FuzzRead(f *testing.F) {
	f.Add("", []byte("plain"))
	f.Add("gzip", []byte(gzipped(f, "plain")))
	f.Add("gzip", []byte(gzipped(f, strings.Repeat("0", 1<<16))))
	f.Add("gzip", []byte(gzipped(f, "a")+gzipped(f, "b")))
	f.Add("x-GZIP ", []byte(gzipped(f, "cut short"))[:20])
	f.Add("gzip, gzip", []byte(gzipped(f, gzipped(f, "twice"))))
	f.Add("identity", []byte{0xff, 0xfe, 0})
	f.Fuzz(func(t *testing.T, coding string, sent []byte) {
		const limit = 4 << 10
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(sent))
		r.Header["Content-Encoding"] = []string{coding}
		got, release, err := body.Read(r, limit)
		defer release()
		switch {
		case len(got) > limit:
			t.Fatalf("%d bytes came through a limit of %d", len(got), limit)
		case err != nil && got != nil && !bytes.Equal(got, sent):
			t.Fatal("bytes beside an error that are not those that were sent")
		case err != nil && !errors.Is(err, body.ErrTooLarge) && !errors.Is(err, body.ErrEncoding):
			t.Fatalf("an error of the connection, which had none: %v", err)
		case errors.Is(err, body.ErrEncoding) && (coding == "" || coding == "identity"):
			t.Fatalf("a plain body cannot be badly encoded: %v", err)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	plain := strings.Repeat(`{"id":"0123456789","sum":12.5}`, 10)
	for _, tc := range []struct{ name, coding, body string }{
		{"plain", "", plain},
		{"gzip", "gzip", gzipped(b, plain)},
	} {
		b.Run(tc.name, func(b *testing.B) {
			src := strings.NewReader(tc.body)
			r := httptest.NewRequest(http.MethodPost, "/", src)
			r.Header.Set("Content-Encoding", tc.coding)
			b.ReportAllocs()
			for b.Loop() {
				src.Reset(tc.body)
				_, release, err := body.Read(r, 1<<20)
				if err != nil {
					b.Fatal(err)
				}
				release()
			}
		})
	}
}
