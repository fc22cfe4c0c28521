package dispatch

import (
	"bytes"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/internal/assert"
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

func newTransport(t *testing.T, insecure bool) *http.Transport {
	t.Helper()
	tr := NewTransport(insecure)
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// send makes a request as a dispatch does and reads the whole response.
func send(t *testing.T, via http.RoundTripper, url string) (status int, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(make([]byte, 10)))
	assert.NoError(t, err)
	resp, err := via.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	assert.NoError(t, err)
	assert.NoError(t, resp.Body.Close())
	return resp.StatusCode, nil
}

// counting counts the connections to a server.
func counting(t *testing.T, h http.HandlerFunc) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	var opened atomic.Int64
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	return srv, &opened
}

func TestTransportKeepsConnections(t *testing.T) {
	t.Parallel()
	srv, opened := counting(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("done")) })
	tr := newTransport(t, false)
	for range 20 {
		status, err := send(t, tr, srv.URL)
		assert.NoError(t, err)
		assert.Status(t, status, http.StatusOK)
	}
	assert.Equal(t, opened.Load(), int64(1))
}

func TestTransportInsecure(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	_, err := send(t, newTransport(t, false), srv.URL)
	assert.ErrorContains(t, err, "certificate")
	status, err := send(t, newTransport(t, true), srv.URL)
	assert.NoError(t, err)
	assert.Status(t, status, http.StatusOK)
}

// A proxy cannot resolve the name of a container of a compose file.
func TestTransportProxy(t *testing.T) {
	t.Parallel()
	proxy := &url.URL{Scheme: "http", Host: "proxy.example:3128"}
	via := exceptLocal(http.ProxyURL(proxy))
	for target, want := range map[string]*url.URL{
		"http://worker.example.com/":  proxy,
		"https://worker.example.com/": proxy,
		"http://192.0.2.1/":           proxy,
		"http://[2001:db8::1]/":       proxy,
		"http://worker/":              nil,
		"http://worker:8080/":         nil,
		"https://worker/":             nil,
		"http://worker.:8080/":        nil,
	} {
		u, err := url.Parse(target)
		assert.NoError(t, err)
		got, err := via(&http.Request{URL: u})
		assert.NoError(t, err)
		if got != want {
			t.Errorf("%s: got %v, want %v", target, got, want)
		}
	}
	if exceptLocal(nil) != nil {
		t.Error("there is a proxy where there was none")
	}
}

// A program may have replaced http.DefaultTransport.
func TestTransportOfTheProgram(t *testing.T) {
	own := http.DefaultTransport
	defer func() { http.DefaultTransport = own }()
	srv, _ := counting(t, func(http.ResponseWriter, *http.Request) {})
	for _, other := range []http.RoundTripper{struct{ http.RoundTripper }{own}, new(http.Transport)} {
		http.DefaultTransport = other
		status, err := send(t, newTransport(t, false), srv.URL)
		assert.NoError(t, err)
		assert.Status(t, status, http.StatusOK)
	}
}

// lateContext is a context whose deadline is over before it is done.
type lateContext struct{ context.Context }

func (lateContext) Deadline() (time.Time, bool) { return time.Now().Add(-time.Millisecond), true }

func TestNoResponseByTheDeadline(t *testing.T) {
	t.Parallel()
	assert.Equal(t, noResponse(lateContext{t.Context()}, os.ErrDeadlineExceeded).Timeout, true)
	assert.Equal(t, noResponse(t.Context(), os.ErrDeadlineExceeded).Timeout, false)
}
