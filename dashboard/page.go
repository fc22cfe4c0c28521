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

// view is what a page shows.
type view struct {
	name    string // of its template
	title   string
	nav     string // the entry of the navigation that it belongs to
	live    bool   // whether it follows what happens
	refresh time.Duration
	status  int // 0: 200
	data    any
}

// frame is what a template is given.
type frame struct {
	Title    string
	Nav      string
	Base     string // the prefix, without a slash at its end
	Token    string
	ReadOnly bool
	Live     bool
	Dead     bool // dead letters are kept somewhere
	Outbox   bool // there is one
	Reload   int  // seconds until a browser without JavaScript reloads; 0: it does not
	About    About
	Notice   string
	Now      time.Time
	Data     any
}

var errNoPage = errors.New("dashboard: there is no such page")

// page serves what load finds: as a page, or, to a page that is being watched,
// as a stream of what it has become.
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

// problem is what the page of an error shows.
type problem struct {
	Heading, Text, Detail string
}

// failure is the page of an error. The error's text is shown: whoever is here
// may act on it.
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
		p.Heading, p.Text = "Not there", "It may just have ended: what is done is deleted."
	case errors.Is(err, admin.ErrInvalid):
		v.status = http.StatusBadRequest
	case errors.Is(err, ErrBudget):
		v.status = http.StatusServiceUnavailable
		p = problem{Heading: "Too many looks", Text: "This dashboard keeps within a few of the list calls that the service allows in a minute, and those are used up. Try again in some seconds."}
	case r.Context().Err() != nil: // the reader is gone, which is no failure of the source
	default:
		d.sparse.log(r.Context(), slog.LevelError, "dashboard: source failed", "path", shortened(r.URL.Path), "error", err)
	}
	v.title, v.data = p.Heading, p
	return v
}
