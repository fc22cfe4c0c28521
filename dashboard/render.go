package dashboard

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"
)

//go:embed templates/*.html assets/*
var files embed.FS

// pages are the templates by name. Each has the layout and a part "live", which
// the updates of an open page send anew.
var pages = parsePages("queues", "queue", "task", "purge", "delete", "letters", "letter", "redrive", "progress", "outbox", "drop", "problem")

func parsePages(names ...string) map[string]*template.Template {
	layout := template.Must(template.New("").Funcs(words).ParseFS(files, "templates/layout.html", "templates/parts.html"))
	all := make(map[string]*template.Template, len(names))
	for _, name := range names {
		all[name] = template.Must(template.Must(layout.Clone()).ParseFS(files, "templates/"+name+".html"))
	}
	return all
}

var words = template.FuncMap{
	"integer":        integer[int],
	"integer64":      integer[int64],
	"number":         number,
	"plural":         plural,
	"briefly":        briefly,
	"relative":       relative,
	"clock":          clock,
	"stamp":          stamp,
	"queuePath":      queuePath,
	"taskPath":       taskPath,
	"taskID":         taskID,
	"queueID":        queueID,
	"target":         target,
	"response":       response,
	"dispatchNumber": func(l *Life, i int) int { return l.Earlier + i + 1 },
	"responseClass":  responseClass,
	"stateClass":     stateClass,
	"statusClass":    statusClass,
	"endClass":       endClass,
	"statusOf":       StatusOf,
	"retryPolicy":    retryPolicy,
	"share":          share,
	"float":          toFloat,
	"moment":         func(now, t time.Time) moment { return moment{now, t} },
	"form":           func(f frame, path, label, name string) button { return button{f, path, label, name} },
	"told":           func(now time.Time, v taskView) told { return told{now, v} },
	"title":          func(e End) string { return strings.ToUpper(string(e[:1])) + string(e[1:]) },
	"perSecond":      func(lastMinute int64) float64 { return float64(lastMinute) / 60 },
	"query":          query,
	"deadReasons":    func() []string { return deadReasons },
	"lower":          strings.ToLower,
	"statuses":       func() []Status { return []Status{Waiting, Running, Retrying} },
}

// moment is the data of the template that shows a time.
type moment struct{ Now, At time.Time }

// button is the data of the template of a button that makes a change.
type button struct {
	Frame             frame
	Path, Label, Name string // Name is for screen readers, where buttons have the same Label
}

// told is the data of the template that shows a task's history.
type told struct {
	Now  time.Time
	View taskView
}

// query returns the URL query of pairs: a name, its value, and so on. It leaves out
// empty values.
func query(pairs ...string) template.URL {
	values := make(url.Values)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			values.Set(pairs[i], pairs[i+1])
		}
	}
	return template.URL(values.Encode()) //nolint:gosec // Encode escapes everything that could end an attribute
}

func toFloat(n any) float64 {
	switch n := n.(type) {
	case int:
		return float64(n)
	case int64:
		return float64(n)
	}
	return n.(float64)
}

var assetTypes = map[string]string{
	"style.css":    "text/css; charset=utf-8",
	"dashboard.js": "text/javascript; charset=utf-8",
	"icon.svg":     "image/svg+xml",
}

// started is used as the assets' time of modification, since another version of the
// program may have other assets.
var started = time.Now()

func serveAsset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	kind, ok := assetTypes[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	content, err := files.ReadFile("assets/" + name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "private, no-cache")
	http.ServeContent(w, r, name, started, bytes.NewReader(content))
}
