package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/wire"
)

func TestThePayloadHas300Bytes(t *testing.T) { assert.Equal(t, len(body(newInvoice())), 300) }

func TestDispatchesAreWhatCloudTasksSends(t *testing.T) {
	var next atomic.Int64
	d := newDispatches("worker.example.com", "{}", []string{"a", "b"}, &next)
	seen := make(map[string]bool)
	for i := range 4 {
		req, err := d.request(t.Context())
		assert.NoError(t, err)
		dispatch, err := wire.HTTP.Read(req.Header)
		assert.NoError(t, err)
		stamp, err := wire.ReadStamp(req.Header)
		assert.NoError(t, err)
		assert.Equal(t, dispatch.Queue, queue)
		assert.Equal(t, seen[stamp.ID] || seen[dispatch.Task], false)
		seen[stamp.ID], seen[dispatch.Task] = true, true
		assert.Equal(t, req.Header.Get("Authorization"), "Bearer "+[]string{"b", "a"}[i%2])
	}
}

func TestLoadKeepsSoManyInFlight(t *testing.T) {
	const inFlight, tasks = 8, 100
	var now, all atomic.Int64
	everyone := make(chan struct{}) // closed when inFlight requests have arrived
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer now.Add(-1)
		if now.Add(1) > inFlight {
			w.WriteHeader(http.StatusTooManyRequests)
		}
		if all.Add(1) == inFlight {
			close(everyone)
		}
		<-everyone // no more are sent while these wait
		if strings.HasSuffix(r.Header.Get(wire.HeaderID), "150") {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer srv.Close()
	var next atomic.Int64
	d := newDispatches(srv.Listener.Addr().String(), "{}", []string{"a"}, &next)
	done, err := d.deliver(t.Context(), srv.Client(), inFlight, time.Minute, tasks)
	assert.NoError(t, err)
	assert.Equal(t, done.tasks, tasks)
	assert.Equal(t, all.Load(), tasks)
	assert.Equal(t, len(done.latencies), tasks)
	_, err = d.deliver(t.Context(), srv.Client(), inFlight, time.Minute, tasks)
	assert.ErrorContains(t, err, "status 503")
}
