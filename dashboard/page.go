package dashboard

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
)

// view is a page and its data.
type view struct {
	name    string // of its template
	title   string
	nav     string // the entry of the navigation that it belongs to
	live    bool   // it updates itself
	refresh time.Duration
	status  int // 0: 200
	data    any
}

// frame is the data of a template.
type frame struct {
	Title    string
	Nav      string
	Base     string // the prefix, without a slash at its end
	Token    string
	ReadOnly bool
	Live     bool
	Dead     bool // there is a dead-letter store
	Outbox   bool // there is an outbox
	Reload   int  // seconds until a browser without JavaScript reloads; 0 for never
	About    About
	Notice   string
	Now      time.Time
	Data     any
}

var errNoPage = errors.New("dashboard: there is no such page")

// page serves the view that load returns: as a page, or, if an open page asks for
// it, as a stream of updates.
func (d *Dashboard) page(load func(*http.Request) (view, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") == "text/event-stream" {
			d.stream(w, r, load)
			return
		}
		v, err := load(r)
		if err != nil {
			v = d.failure(r, err)
		}
		d.render(w, r, v)
	})
}

func (d *Dashboard) render(w http.ResponseWriter, r *http.Request, v view) {
	f := d.frame(r, v)
	f.Token = d.guard.token(w, r)
	var page bytes.Buffer
	if err := pages[v.name].ExecuteTemplate(&page, "layout", f); err != nil {
		d.sparse.log(r.Context(), slog.LevelError, "dashboard: page failed", "page", v.name, "error", err)
		http.Error(w, "This page could not be rendered; the log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if v.status != 0 {
		w.WriteHeader(v.status)
	}
	_, _ = page.WriteTo(w)
}

func (d *Dashboard) frame(r *http.Request, v view) frame {
	f := frame{
		Title:    v.title,
		Nav:      v.nav,
		Base:     d.config.Prefix,
		ReadOnly: d.config.ReadOnly,
		Live:     v.live,
		Dead:     d.config.DeadLetters != nil,
		Outbox:   d.config.Outbox != nil,
		About:    d.source.About(),
		Notice:   notices[r.URL.Query().Get("done")],
		Now:      time.Now(),
		Data:     v.data,
	}
	if v.refresh > 0 {
		f.Reload = int(v.refresh.Seconds())
	}
	return f
}

// problem is the data of an error's page.
type problem struct {
	Heading, Text, Detail string
}

// failure returns the page of an error. It shows the error's text, since the reader
// is authorized to see and change everything else.
func (d *Dashboard) failure(r *http.Request, err error) view {
	v := view{name: "problem", status: http.StatusBadGateway}
	p := problem{Heading: "That did not work", Detail: err.Error()}
	switch refused := (*refusal)(nil); {
	case errors.As(err, &refused):
		v.status = http.StatusUnprocessableEntity
		p.Detail, p.Text = "", refused.text
	case errors.Is(err, errNoPage):
		v.status = http.StatusNotFound
		p = problem{Heading: "There is no such page"}
	case errors.Is(err, admin.ErrNotFound), errors.Is(err, handoff.ErrNoDeadLetter):
		v.status = http.StatusNotFound
		p.Heading, p.Text = "Not found", "It may have ended meanwhile: Cloud Tasks deletes tasks that are done."
	case errors.Is(err, admin.ErrInvalid):
		v.status = http.StatusBadRequest
	case errors.Is(err, ErrBudget):
		v.status = http.StatusServiceUnavailable
		p = problem{Heading: "Too many list calls", Text: "This dashboard limits its list calls, because the service allows a project only so many a minute. Try again in some seconds."}
	case r.Context().Err() != nil: // the reader closed the page, which is no failure of the source
	default:
		d.sparse.log(r.Context(), slog.LevelError, "dashboard: source failed", "path", shortened(r.URL.Path), "error", err)
	}
	v.title, v.data = p.Heading, p
	return v
}
