package dashboard

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

const (
	// mostStreams bounds the pages that are watched at a time.
	mostStreams = 200
	// streamLife is how long a stream goes on before the page must connect,
	// and be authorized, again.
	streamLife = 5 * time.Minute
	// streamWrite is how long a page may take to read an update.
	streamWrite = 10 * time.Second

	defaultRefresh = 10 * time.Second
)

// stream sends the live part of a page whenever it has changed, until the
// page is closed.
func (d *Dashboard) stream(w http.ResponseWriter, r *http.Request, load func(*http.Request) (view, error)) {
	select {
	case d.streams <- struct{}{}:
		defer func() { <-d.streams }()
	default:
		http.Error(w, "Too many pages are being watched.", http.StatusServiceUnavailable)
		return
	}
	token := "" // the forms of the page have theirs
	if cookie, err := r.Cookie(tokenCookie); err == nil {
		token = cookie.Value
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // or a proxy collects the events
	control := http.NewResponseController(w)
	end := time.NewTimer(streamLife)
	defer end.Stop()
	var last []byte
	for {
		v, event, payload := d.look(r, load, token)
		if bytes.Equal(payload, last) {
			event, payload = "same", nil
		} else {
			last = payload
		}
		// A server's WriteTimeout counts from the request: a stream outlives
		// it. One that cannot set deadlines does without.
		_ = control.SetWriteDeadline(time.Now().Add(streamWrite))
		if writeEvent(w, event, payload) != nil || control.Flush() != nil {
			return
		}
		pause := time.NewTimer(d.refresh(v))
		select {
		case <-pause.C:
			continue
		case <-end.C:
		case <-r.Context().Done():
		case <-d.ctx.Done():
		}
		pause.Stop()
		return
	}
}

// look is what there is to send now.
func (d *Dashboard) look(r *http.Request, load func(*http.Request) (view, error), token string) (v view, event string, payload []byte) {
	v, err := load(r)
	if err != nil {
		return v, "trouble", []byte(d.failure(r, err).title)
	}
	f := d.frame(r, v)
	f.Token = token
	var part bytes.Buffer
	if err := pages[v.name].ExecuteTemplate(&part, "live", f); err != nil {
		d.sparse.log(r.Context(), slog.LevelError, "dashboard: page failed", "page", v.name, "error", err)
		return v, "trouble", []byte("the log says why")
	}
	return v, "live", part.Bytes()
}

func (d *Dashboard) refresh(v view) time.Duration {
	if v.refresh > 0 {
		return v.refresh
	}
	if every := d.source.About().Refresh; every > 0 {
		return every
	}
	return defaultRefresh
}

// lineEnds makes every line end of an event stream "\n": a lone "\r" ends a line
// there too (HTML, "Parsing an event stream"), and would begin a field of its
// own in the middle of somebody's error text.
var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// writeEvent writes one server-sent event. Every line of its data is a field.
func writeEvent(w io.Writer, name string, data []byte) error {
	var event bytes.Buffer
	fmt.Fprintf(&event, "event: %s\n", name)
	for line := range strings.SplitSeq(strings.TrimSuffix(lineEnds.Replace(string(data)), "\n"), "\n") {
		event.WriteString("data: ")
		event.WriteString(line)
		event.WriteByte('\n')
	}
	event.WriteByte('\n')
	_, err := w.Write(event.Bytes())
	return err
}
