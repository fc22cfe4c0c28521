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

// pages are the templates by name. Each has the layout and a part "live",
// which a page that is being watched is sent again.
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
	"integer":       integer[int],
	"integer64":     integer[int64],
	"number":        number,
	"plural":        plural,
	"briefly":       briefly,
	"relative":      relative,
	"clock":         clock,
	"stamp":         stamp,
	"queuePath":     queuePath,
	"taskPath":      taskPath,
	"taskID":        taskID,
	"queueID":       queueID,
	"target":        target,
	"answer":        answer,
	"attemptNumber": func(l *Life, i int) int { return l.Earlier + i + 1 },
	"answerClass":   answerClass,
	"stateClass":    stateClass,
	"statusClass":   statusClass,
	"endClass":      endClass,
	"statusOf":      StatusOf,
	"retryPolicy":   retryPolicy,
	"share":         share,
	"float":         toFloat,
	"moment":        func(now, t time.Time) moment { return moment{now, t} },
	"form":          func(f frame, path, label, name string) button { return button{f, path, label, name} },
	"told":          func(now time.Time, v taskView) told { return told{now, v} },
	"title":         func(e End) string { return strings.ToUpper(string(e[:1])) + string(e[1:]) },
	"perSecond":     func(lastMinute int64) float64 { return float64(lastMinute) / 60 },
	"query":         query,
	"deadReasons":   func() []string { return deadReasons },
	"lower":         strings.ToLower,
	"statuses":      func() []Status { return []Status{Waiting, Running, Retrying} },
}

// moment is a time for the template that shows one.
type moment struct{ Now, At time.Time }

// button is a change that one click makes.
type button struct {
	Frame             frame
	Path, Label, Name string // Name tells buttons of one label apart
}

// told is a task's life and when it is told.
type told struct {
	Now  time.Time
	View taskView
}

// query is the query of an address, of names and values in turn; empty values
// are left out.
func query(pairs ...string) template.URL {
	values := make(url.Values)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			values.Set(pairs[i], pairs[i+1])
		}
	}
	return template.URL(values.Encode()) //nolint:gosec // Encode leaves nothing that could end an attribute
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

// started stands in for the time that the assets were made: those of another
// version of the program are other ones.
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
