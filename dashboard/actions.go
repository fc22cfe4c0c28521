package dashboard

import (
	"errors"
	"net/http"
	"net/url"
)

// notices are the messages of a page after a change. The query of its URL names one.
var notices = map[string]string{
	"paused":         "The queue is paused.",
	"resumed":        "The queue is running.",
	"purged":         "The purge has begun. Cloud Tasks may take a minute.",
	"run":            "The task is being dispatched.",
	"deleted":        "The task is deleted.",
	"redriven":       "The letter is enqueued again.",
	"letter-deleted": "The letter is deleted.",
	"retried":        "The row is sent as soon as a relay finds it.",
	"dropped":        "The row is deleted.",
	"stopped":        "The redrive or deletion stops after the letters in progress.",
}

// refusal is the error of a change that cannot be made as requested.
type refusal struct{ text string }

func (r *refusal) Error() string { return "dashboard: " + r.text }

// change handles a form. do makes the change and returns the path to redirect to.
func (d *Dashboard) change(do func(*http.Request) (string, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next, err := do(r)
		if err != nil {
			d.render(w, r, d.failure(r, err))
			return
		}
		d.log.InfoContext(r.Context(), "dashboard: changed", "path", r.URL.Path, "letters", r.PostForm["id"], "remote", r.RemoteAddr)
		// 303, so that a reload does not do it again.
		http.Redirect(w, r, d.config.Prefix+next, http.StatusSeeOther)
	})
}

// queueOf returns the full name of the queue in the path.
func queueOf(r *http.Request) string {
	return "projects/" + r.PathValue("project") + "/locations/" + r.PathValue("location") + "/queues/" + r.PathValue("queue")
}

func taskOf(r *http.Request) string { return queueOf(r) + "/tasks/" + r.PathValue("task") }

func (d *Dashboard) pause(r *http.Request) (string, error) {
	return queuePath(queueOf(r)) + "?done=paused", d.source.Pause(r.Context(), queueOf(r))
}

func (d *Dashboard) resume(r *http.Request) (string, error) {
	return queuePath(queueOf(r)) + "?done=resumed", d.source.Resume(r.Context(), queueOf(r))
}

func (d *Dashboard) purge(r *http.Request) (string, error) {
	if r.PostForm.Get("confirm") != r.PathValue("queue") {
		return "", &refusal{"Nothing was purged: what was typed is not the ID of the queue."}
	}
	return queuePath(queueOf(r)) + "?done=purged", d.source.Purge(r.Context(), queueOf(r))
}

func (d *Dashboard) runTask(r *http.Request) (string, error) {
	return taskPath(taskOf(r)) + "?done=run", d.source.RunNow(r.Context(), taskOf(r))
}

func (d *Dashboard) deleteTask(r *http.Request) (string, error) {
	return queuePath(queueOf(r)) + "?done=deleted", d.source.Delete(r.Context(), taskOf(r))
}

func (d *Dashboard) redriveLetter(r *http.Request) (string, error) {
	if d.config.Client == nil {
		return "", errNoClient
	}
	_, err := d.config.Client.Redrive(r.Context(), d.config.DeadLetters, r.PostForm.Get("id"))
	return "/dead?done=redriven", err
}

func (d *Dashboard) deleteLetter(r *http.Request) (string, error) {
	if d.config.DeadLetters == nil {
		return "", errNoLetters
	}
	return "/dead?done=letter-deleted", d.config.DeadLetters.Delete(r.Context(), r.PostForm.Get("id"))
}

var (
	errNoLetters = &refusal{"This dashboard has no dead-letter store (Config.DeadLetters)."}
	errNoClient  = &refusal{"This dashboard has no client to redrive with (Config.Client)."}
)

// redriveMany starts a redrive of the selected letters, or of all that match.
func (d *Dashboard) redriveMany(r *http.Request) (string, error) {
	if d.config.Client == nil {
		return "", errNoClient
	}
	if r.PostForm.Get("scope") == "matching" {
		return "/dead/progress", d.startRedrive(letterFilterOf(r.PostForm), nil)
	}
	ids := r.PostForm["id"]
	if len(ids) == 0 {
		return "", &refusal{"Nothing was redriven: no letter was selected."}
	}
	return "/dead/progress", d.startRedrive(letterFilter{}, ids)
}

// deleteMany starts a deletion of all letters that match.
func (d *Dashboard) deleteMany(r *http.Request) (string, error) {
	if d.config.DeadLetters == nil {
		return "", errNoLetters
	}
	return "/dead/progress", d.startDelete(letterFilterOf(r.PostForm))
}

func (d *Dashboard) stopRedrive(*http.Request) (string, error) {
	if !d.redrive.stop() {
		return "", errors.New("dashboard: there is no redrive or deletion to stop")
	}
	return "/dead/progress?done=stopped", nil
}

// letterFilterOf reads the filter of a form or a query.
func letterFilterOf(values url.Values) letterFilter {
	return letterFilter{
		Kind:   values.Get("kind"),
		Reason: values.Get("reason"),
		Error:  values.Get("error"),
		Text:   values.Get("q"),
	}
}
