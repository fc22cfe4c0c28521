package dashboard

import (
	"net/http"
	"net/url"
	"time"

	"github.com/brillconsulting/handoff/admin"
)

// queueView is the data of a queue's page.
type queueView struct {
	Queue   admin.Queue
	Search  TaskQuery
	Page    TaskPage
	Trouble string // why the tasks could not be listed
	First   bool   // this is the first page
	Next    string // address of the next page; empty: there is none
	Charts  []*chart
	Span    time.Duration
	Ended   []Life
	Watched bool
}

const (
	tasksShown = 50
	endedShown = 20
)

// The time that a chart covers: a bar is one second, or five.
const (
	shortSpan = time.Minute
	longSpan  = 5 * time.Minute
)

func (d *Dashboard) showQueue(r *http.Request) (view, error) {
	name := queueOf(r)
	queue, err := d.source.Queue(r.Context(), name)
	if err != nil {
		return view{}, err
	}
	values := r.URL.Query()
	data := queueView{
		Queue: queue,
		Search: TaskQuery{
			Queue:  name,
			Text:   values.Get("q"),
			Kind:   values.Get("kind"),
			Status: Status(values.Get("status")),
			Cursor: values.Get("page"),
			Limit:  tasksShown,
		},
		Watched: d.watcher != nil,
	}
	data.First = data.Search.Cursor == ""
	if data.Page, err = d.source.Tasks(r.Context(), data.Search); err != nil {
		// The rest of the page is useful without the tasks.
		data.Trouble = d.failure(r, err).data.(problem).say()
	}
	if data.Page.Next != "" {
		values.Set("page", data.Page.Next)
		values.Del("done")
		data.Next = "?" + values.Encode()
	}
	if d.watcher != nil {
		if err := d.watch(r, &data); err != nil {
			return view{}, err
		}
	}
	return view{name: "queue", title: queueNameOf(name).ID, nav: "queues", live: true, data: data}, nil
}

// watch adds the charts and finished tasks, which only an Observer has.
func (d *Dashboard) watch(r *http.Request, data *queueView) error {
	activity, err := d.watcher.Activity(r.Context(), data.Queue.Name)
	if err != nil {
		return err
	}
	now := time.Now()
	data.Span = spanOf(r.URL.Query(), now.Sub(activity.Since))
	data.Charts = []*chart{
		throughputChart(activity, now, data.Span),
		outcomeChart(activity, now, data.Span),
		lagChart(activity, now, data.Span),
	}
	data.Ended, err = d.watcher.Ended(r.Context(), data.Queue.Name, endedShown)
	return err
}

// spanOf returns the requested span. The default is the longer one if there is more
// to show than fits in the shorter one.
func spanOf(values url.Values, observed time.Duration) time.Duration {
	switch values.Get("span") {
	case "1m":
		return shortSpan
	case "5m":
		return longSpan
	}
	if observed < shortSpan {
		return shortSpan
	}
	return longSpan
}

// confirmation is the data of a page that asks before a change.
type confirmation struct {
	Queue admin.Queue
	Task  string // full name
}

func (d *Dashboard) askPurge(r *http.Request) (view, error) {
	queue, err := d.source.Queue(r.Context(), queueOf(r))
	return view{name: "purge", title: "Purge " + r.PathValue("queue"), nav: "queues", data: confirmation{Queue: queue}}, err
}

func (d *Dashboard) askDelete(r *http.Request) (view, error) {
	return view{name: "delete", title: "Delete a task", nav: "queues", data: confirmation{Task: taskOf(r)}}, nil
}
