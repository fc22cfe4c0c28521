package dashboard_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/dashboard"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

func (w *world) buried() int {
	w.t.Helper()
	counts, err := w.letters.CountByKind(w.t.Context())
	assert.NoError(w.t, err)
	all := 0
	for _, n := range counts {
		all += n
	}
	return all
}

// done waits for the end of a redrive and returns its page.
func (w *world) done() string {
	w.t.Helper()
	var body string
	assert.Eventually(w.t, 20*time.Second, func() bool {
		body = w.get(board + "/dead/progress")
		return !strings.Contains(body, "<h1>Redriving</h1>")
	}, "the redrive to end")
	return body
}

func TestLettersPage(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.bury("welcome", 3)
	w.bury("invoice", 2, func(l *handoff.DeadLetter) {
		l.Reasons, l.LastErr = []handoff.Reason{handoff.ReasonExhausted}, "card declined"
	})
	contains(t, w.get(board+"/dead"), `<a href="?kind=welcome">welcome</a> <b>3</b>`, `<a href="?kind=invoice">invoice</a> <b>2</b>`,
		">permanent</a> <b>3</b>", ">exhausted</a> <b>2</b>", "no such user", "card declined")
	body := w.get(board + "/dead?kind=invoice")
	contains(t, body, "card declined")
	lacks(t, body, "no such user")
	body = w.get(board + "/dead?q=CARD")
	contains(t, body, "invoice-0", "invoice-1")
	lacks(t, body, "welcome-0")
	body = w.get(board + "/dead?reason=permanent&q=welcome-1")
	contains(t, body, "welcome-1")
	lacks(t, body, "welcome-0", "invoice-0")
	contains(t, w.get(board+"/dead?q=nowhere"), "No match.", "Searched 5 letters")
}

func TestLettersArePaged(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.bury("welcome", 120)
	seen := make(map[string]bool)
	link := regexp.MustCompile(`<a href="(\?page=[^"]+)" rel="next">`)
	row := regexp.MustCompile(`value="(welcome-\d+)"`)
	for next := "?"; next != ""; {
		body := w.get(board + "/dead" + next)
		for _, match := range row.FindAllStringSubmatch(body, -1) {
			seen[match[1]] = true
		}
		next = ""
		if match := link.FindStringSubmatch(body); match != nil {
			next = strings.ReplaceAll(match[1], "&amp;", "&")
		}
	}
	assert.Equal(t, len(seen), 120)
}

func TestLetterPage(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.bury("welcome", 1, func(l *handoff.DeadLetter) { l.Payload = []byte(`{"secret":"s3cr3t"}`) })
	body := w.get(board + "/dead/letter?id=welcome-0")
	contains(t, body, "no such user", "permanent", "19 bytes", "https://worker.test/tasks/welcome", "<b>1 attempt</b>")
	lacks(t, body, "s3cr3t")
	contains(t, w.get(board+"/dead/letter?id=welcome-0&payload=shown"), "s3cr3t")
}

func TestRedriveOne(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.bury("welcome", 2)
	_, body := w.post(board+"/dead/letter/redrive", url.Values{"id": {"welcome-1"}})
	contains(t, body, "The letter is enqueued again.", "welcome-0")
	lacks(t, body, "welcome-1")
	assert.Equal(t, len(w.tasks.Tasks(emails)), 1)
	assert.Equal(t, w.buried(), 1)
	contains(t, w.get(board+"/dead/letter?id=welcome-1"), "<b>Redriven</b>")
	lacks(t, w.get(board+"/dead/letter?id=welcome-0"), "<b>Redriven</b>")
	w.post(board+"/dead/letter/redrive", url.Values{"id": {"welcome-1"}}) // as by two people: one task
	assert.Equal(t, len(w.tasks.Tasks(emails)), 1)
	status, _ := w.post(board+"/dead/letter/redrive", url.Values{"id": {"welcome-9"}})
	assert.Status(t, status, http.StatusNotFound)
}

func TestDeleteLetter(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.bury("welcome", 2)
	_, body := w.post(board+"/dead/letter/delete", url.Values{"id": {"welcome-0"}})
	contains(t, body, "The letter is deleted.")
	assert.Equal(t, w.buried(), 1)
	assert.Equal(t, len(w.tasks.Tasks(emails)), 0)
}

func TestRedriveSelected(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.bury("welcome", 5)
	status, body := w.post(board+"/dead/redrive", nil)
	assert.Status(t, status, http.StatusUnprocessableEntity)
	contains(t, body, "no letter was selected")
	w.post(board+"/dead/redrive", url.Values{"id": {"welcome-0", "welcome-3", "gone"}})
	contains(t, w.done(), "Redrive done", "3 of 3 letters", `value="3"`)
	assert.Equal(t, w.buried(), 3)
	assert.Equal(t, len(w.tasks.Tasks(emails)), 2)
}

func TestRedriveMatching(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.bury("welcome", 300)
	w.bury("invoice", 7)
	contains(t, w.get(board+"/dead/redrive?kind=welcome"), "300 letters", "kind <b>welcome</b>", `name="kind" value="welcome"`)
	w.post(board+"/dead/redrive", url.Values{"scope": {"matching"}, "kind": {"welcome"}})
	contains(t, w.done(), "300 of 300 letters")
	assert.Equal(t, w.buried(), 7)
	assert.Equal(t, len(w.tasks.Tasks(emails)), 300)
}

// A letter that cannot be redriven stays, and the page says why.
func TestRedriveFails(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.bury("welcome", 2, func(l *handoff.DeadLetter) { l.Queue = "nowhere" })
	w.post(board+"/dead/redrive", url.Values{"scope": {"matching"}})
	contains(t, w.done(), "2 of 2 letters", "The last failure: ", "nowhere")
	assert.Equal(t, w.buried(), 2)
}

func TestWithoutLetters(t *testing.T) {
	t.Parallel()
	w := setup(t, func(_ *world, c *dashboard.Config) { c.DeadLetters, c.Client = nil, nil })
	contains(t, w.get(board+"/dead"), "has no dead-letter store")
	for _, path := range []string{"/dead/letter/redrive", "/dead/letter/delete", "/dead/redrive"} {
		status, _ := w.post(board+path, url.Values{"id": {"x"}})
		assert.Status(t, status, http.StatusUnprocessableEntity)
	}
	status, _ := w.try(board + "/dead/letter?id=x")
	assert.Status(t, status, http.StatusUnprocessableEntity)
}

func TestWithoutClient(t *testing.T) {
	t.Parallel()
	w := setup(t, func(_ *world, c *dashboard.Config) { c.Client = nil })
	w.bury("welcome", 1)
	body := w.get(board + "/dead")
	contains(t, body, "no client to redrive with", "welcome-0")
	lacks(t, body, "Redrive the selected")
	status, _ := w.post(board+"/dead/letter/redrive", url.Values{"id": {"welcome-0"}})
	assert.Status(t, status, http.StatusUnprocessableEntity)
	assert.Equal(t, w.buried(), 1)
}

// A redrive stops between two letters. Letters that it did not reach stay.
func TestRedriveStops(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.bury("welcome", 200)
	w.tasks.InjectCall(emulator.CallFault{Method: "CreateTask", Delay: 100 * time.Millisecond})
	_, body := w.post(board+"/dead/redrive", url.Values{"scope": {"matching"}})
	contains(t, body, "<h1>Redriving</h1>", `http-equiv="refresh"`)
	assert.Eventually(t, 20*time.Second, func() bool { return strings.Contains(w.get(board+"/dead/progress"), "of 200 letters") }, "the letters to be counted")
	status, body := w.post(board+"/dead/redrive", url.Values{"scope": {"matching"}})
	assert.Status(t, status, http.StatusUnprocessableEntity)
	contains(t, body, "A redrive is under way")
	w.post(board+"/dead/redrive/stop", nil)
	contains(t, w.done(), "Redrive stopped", "of 200 letters")
	left, tasks := w.buried(), len(w.tasks.Tasks(emails))
	if left == 0 || left+tasks != 200 {
		t.Fatalf("%d letters are left, and there are %d tasks", left, tasks)
	}
}

// Close stops a redrive and waits for the letters that it is working on.
func TestCloseStopsARedrive(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.bury("welcome", 200)
	w.tasks.InjectCall(emulator.CallFault{Method: "CreateTask", Delay: 100 * time.Millisecond})
	w.post(board+"/dead/redrive", url.Values{"scope": {"matching"}})
	w.board.Close()
	left, tasks := w.buried(), len(w.tasks.Tasks(emails))
	if left == 0 || left+tasks != 200 {
		t.Fatalf("%d letters are left, and there are %d tasks", left, tasks)
	}
}

// slowLists is a store whose lists fail or block until their context ends.
type slowLists struct {
	handoff.DeadLetterStore
	began chan struct{}
	err   error
}

func (s slowLists) List(ctx context.Context, _ handoff.DeadLetterQuery) (handoff.DeadLetterPage, error) {
	if s.err != nil {
		return handoff.DeadLetterPage{}, s.err
	}
	s.began <- struct{}{}
	<-ctx.Done()
	return handoff.DeadLetterPage{}, fmt.Errorf("list: %w", ctx.Err())
}

// A redrive that is stopped before it has read a page of letters says that it was
// stopped. That is no failure.
func TestRedriveStopsBeforeTheFirstPage(t *testing.T) {
	t.Parallel()
	began := make(chan struct{}, 1)
	w := setup(t, func(w *world, c *dashboard.Config) {
		c.DeadLetters = slowLists{DeadLetterStore: w.letters, began: began}
	})
	w.bury("welcome", 3)
	w.post(board+"/dead/redrive", url.Values{"scope": {"matching"}})
	<-began
	w.post(board+"/dead/redrive/stop", nil)
	body := w.done()
	contains(t, body, "<h1>Redrive stopped</h1>", "None was redriven.")
	lacks(t, body, "canceled", "The last failure", "0 of 0", "<progress")
	assert.Equal(t, w.buried(), 3)
}

func TestRedriveThatCannotListFails(t *testing.T) {
	t.Parallel()
	w := setup(t, func(w *world, c *dashboard.Config) {
		c.DeadLetters = slowLists{DeadLetterStore: w.letters, err: errors.New("redis is away")}
	})
	w.post(board+"/dead/redrive", url.Values{"scope": {"matching"}})
	body := w.done()
	contains(t, body, "<h1>Redrive failed</h1>", "None was redriven.", "redis is away")
	lacks(t, body, "0 of 0")
}

// Letters with one cause can be listed, redriven and deleted together.
func TestErrorGroups(t *testing.T) {
	t.Parallel()
	w := setup(t)
	say := func(text string) func(*handoff.DeadLetter) {
		return func(l *handoff.DeadLetter) { l.LastErr = fmt.Sprintf(text, l.ID) }
	}
	w.bury("welcome", 3, say("user %s7f is unknown (id 42)\nstack of it"))
	w.bury("invoice", 2, say("card declined"))
	group := "user # is unknown (id #)"
	link := "error=" + url.QueryEscape(group)
	shown := strings.ReplaceAll(link, "+", "&#43;") // as in an attribute
	contains(t, w.get(board+"/dead"), `<a href="?`+shown+`">`+group+`</a> <b>3</b>`, ">card declined")
	body := w.get(board + "/dead?" + link)
	contains(t, body, "welcome-0", "welcome-2", `aria-current="true">`+group, `/dead/delete?`+shown, `/dead/redrive?`+shown)
	lacks(t, body, "invoice-0")

	contains(t, w.get(board+"/dead/delete?"+link), "<h1>Delete all that match</h1>", "<b>3 letters</b>", "gone for good", group)
	w.post(board+"/dead/delete", url.Values{"error": {group}})
	contains(t, w.done(), "<h1>Deletion done</h1>", "3 of 3 letters", "<dt>Deleted</dt>")
	assert.Equal(t, w.buried(), 2)
	assert.Equal(t, len(w.tasks.Tasks(emails)), 0)

	w.bury("welcome", 3, say("user %s is unknown (id 42)"))
	w.post(board+"/dead/redrive", url.Values{"scope": {"matching"}, "error": {group}})
	contains(t, w.done(), "<h1>Redrive done</h1>", "3 of 3 letters")
	assert.Equal(t, len(w.tasks.Tasks(emails)), 3)
}

func TestLettersOfAGroupStayWhereNobodyMayDelete(t *testing.T) {
	t.Parallel()
	w := setup(t, func(_ *world, c *dashboard.Config) { c.ReadOnly = true })
	w.bury("welcome", 1)
	lacks(t, w.get(board+"/dead"), "Delete all that match")
	lacks(t, w.get(board+"/dead/delete"), "<button")
	assert.Status(t, w.forge(forged{"", http.Header{"Sec-Fetch-Site": {"same-origin"}}, true, "x"}, board+"/dead/delete"), http.StatusForbidden)
	assert.Equal(t, w.buried(), 1)
}

// The start page lists what fails and links to it.
func TestStartPageShowsWhatFails(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.bury("welcome", 2)
	w.bury("invoice", 1)
	contains(t, w.get(board+"/"), ">3 dead letters</a>", board+`/dead?kind=welcome">welcome</a> <b>2</b>`, board+`/dead?kind=invoice">invoice</a> <b>1</b>`)
	empty := setup(t)
	lacks(t, empty.get(board+"/"), "dead letter<", "dead letters<")
	broken := setup(t, func(w *world, c *dashboard.Config) { c.DeadLetters = noCounts{w.letters} })
	contains(t, broken.get(board+"/"), ">emails</a>", "Dead letters: ", "redis is away")
}

// noCounts is a store that cannot count.
type noCounts struct{ handoff.DeadLetterStore }

func (noCounts) CountByKind(context.Context) (map[string]int, error) {
	return nil, errors.New("redis is away")
}

// The page of a task shows the limit in its stamp, which the router counts, not the
// queue's.
func TestTaskShowsItsOwnLimit(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for limit, says := range map[string]string{"7": "7 attempts, which the router counts", "-1": "no limit of attempts, which", "": ""} {
		task := &cloudtaskspb.Task{Name: emails + "/tasks/limit" + strings.Trim(limit, "-"), MessageType: &cloudtaskspb.Task_HttpRequest{
			HttpRequest: &cloudtaskspb.HttpRequest{Url: "https://worker.test/tasks/welcome"},
		}}
		if limit != "" {
			task.GetHttpRequest().Headers = map[string]string{"Handoff-Max-Attempts": limit}
		}
		w.createTask(task)
		body := w.get(page + "/tasks/limit" + strings.Trim(limit, "-"))
		if says != "" {
			contains(t, body, says)
		} else {
			lacks(t, body, "which the router counts")
		}
	}
}
