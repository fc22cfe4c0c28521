package main

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/wire"
)

func TestThePayloadHas300Bytes(t *testing.T) {
	assert.Equal(t, len(body(newInvoice())), 300)
	assert.Equal(t, len(body(newInvoiceOf(100_000))), 100_000)
}

func TestDispatchesAreWhatCloudTasksSends(t *testing.T) {
	var next atomic.Int64
	d := newDispatches(2, []byte("{}"), []string{"a", "b"}, &next)
	seen := make(map[string]bool)
	for i := range 4 {
		raw := d.appendNext(nil)
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		assert.NoError(t, err)
		dispatch, err := wire.HTTP.Read(req.Header)
		assert.NoError(t, err)
		stamp, err := wire.ReadStamp(req.Header)
		assert.NoError(t, err)
		assert.Equal(t, dispatch.Queue, queue)
		assert.Equal(t, len(stamp.ID), 26)
		assert.Equal(t, seen[stamp.ID] || seen[dispatch.Task], false)
		seen[stamp.ID], seen[dispatch.Task] = true, true
		assert.Equal(t, req.URL.Path, "/tasks/"+kindOf((i+1)%2))
		assert.Equal(t, req.Header.Get("Authorization"), "Bearer "+[]string{"b", "a"}[i%2])
		text, err := io.ReadAll(req.Body)
		assert.NoError(t, err)
		assert.Equal(t, string(text), "{}")
	}
}

func TestLoadKeepsSoManyInFlight(t *testing.T) {
	const inFlight, tasks = 8, 100
	var now, all atomic.Int64
	var tooMany atomic.Bool
	everyone := make(chan struct{}) // closed when so many have come
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if now.Add(1) > inFlight {
			tooMany.Store(true)
		}
		if all.Add(1) == inFlight {
			close(everyone)
		}
		<-everyone // no more are sent while so many wait
		now.Add(-1)
	}))
	defer srv.Close()
	var next atomic.Int64
	l, err := openLoad(t.Context(), srv.Listener.Addr().String(), inFlight, newDispatches(1, []byte("{}"), []string{"a"}, &next))
	assert.NoError(t, err)
	defer l.close()
	assert.Equal(t, all.Load(), inFlight) // one on each connection, before anything is measured
	done, err := l.run(t.Context(), time.Minute, tasks)
	assert.NoError(t, err)
	assert.Equal(t, done.tasks, tasks)
	assert.Equal(t, all.Load(), inFlight+tasks)
	assert.Equal(t, tooMany.Load(), false)
	assert.Equal(t, len(done.latencies), tasks)
	assert.Equal(t, slices.IsSorted(done.latencies) && done.latencies[0] > 0, true)
}

func TestLoadFailsOnAnyOtherAnswer(t *testing.T) {
	var once sync.Once
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.Header.Get("Handoff-Id"), "50") {
			once.Do(func() { w.WriteHeader(http.StatusServiceUnavailable) })
		}
	}))
	defer srv.Close()
	var next atomic.Int64
	l, err := openLoad(t.Context(), srv.Listener.Addr().String(), 4, newDispatches(1, []byte("{}"), []string{"a"}, &next))
	assert.NoError(t, err)
	defer l.close()
	_, err = l.run(t.Context(), time.Minute, 100)
	assert.ErrorContains(t, err, "answered 503")
}

func TestReadAnswer(t *testing.T) {
	for _, c := range []struct {
		text   string
		status int
		says   string
	}{
		{"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 0\r\n\r\n", 200, ""},
		{"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops", 500, ""},
		{"HTTP/1.1\r\n\r\n", 0, "no status line"},
		{"HTTP/1.1 abc\r\n\r\n", 0, "abc"},
		{"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", 0, "x"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\noops", 200, "EOF"},
		{"HTTP/1.1 200 OK\r\n", 0, "EOF"},
	} {
		r := bufio.NewReader(strings.NewReader(c.text))
		status, err := readAnswer(r)
		if c.says != "" {
			assert.ErrorContains(t, err, c.says)
			continue
		}
		assert.NoError(t, err)
		assert.Equal(t, status, c.status)
		assert.Equal(t, r.Buffered(), 0)
	}
}
