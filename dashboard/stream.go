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
	// maxStreams is the maximum number of streams at the same time.
	maxStreams = 200
	// streamLife is how long a stream lasts. Then the page connects again, and
	// is authorized again.
	streamLife = 5 * time.Minute
	// streamWrite is the timeout of sending an update.
	streamWrite = 10 * time.Second

	defaultRefresh = 10 * time.Second
)

// stream sends the live part of an open page whenever it has changed, until the
// page is closed or streamLife is over.
func (d *Dashboard) stream(w http.ResponseWriter, r *http.Request, load func(*http.Request) (view, error)) {
	select {
	case d.streams <- struct{}{}:
		defer func() { <-d.streams }()
	default:
		http.Error(w, "Too many pages are open.", http.StatusServiceUnavailable)
		return
	}
	token := "" // the token of the forms that are already on the page
	if cookie, err := r.Cookie(tokenCookie); err == nil {
		token = cookie.Value
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would otherwise buffer the events
	control := http.NewResponseController(w)
	end := time.NewTimer(streamLife)
	defer end.Stop()
	var last []byte
	for {
		v, event, payload := d.update(r, load, token)
		if bytes.Equal(payload, last) {
			event, payload = "same", nil
		} else {
			last = payload
		}
		// The server's WriteTimeout counts from the request, so it must be
		// extended. Without support for deadlines, the stream has none.
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

// update returns the event that the stream sends next.
func (d *Dashboard) update(r *http.Request, load func(*http.Request) (view, error), token string) (v view, event string, payload []byte) {
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

// lineEnds replaces every line end by "\n". In an event stream a lone "\r" also ends
// a line (HTML, "Parsing an event stream"), so text that contains one could begin a
// field of its own.
var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// writeEvent writes a server-sent event. Each line of its data is a field.
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
