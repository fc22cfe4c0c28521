package browser_test

import (
	"fmt"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/brillconsulting/handoff/internal/integration/browser"
)

// lived returns a world with history: a task that succeeded, one that the queue
// gave up, one that waits, and dead letters.
func lived(t *testing.T) *world {
	t.Helper()
	w := setup(t)
	w.run(w.create("good", "https://worker.test/200"))
	bad := w.create("bad", "https://worker.test/502")
	for attempt := range 3 {
		w.run(bad)
		assert.Eventually(t, maxWait, func() bool {
			life, _ := w.tasks.Life(bad)
			return len(life.Dispatches) == attempt+1 && life.Dispatches[attempt].Status != 0
		}, "an attempt")
	}
	assert.Eventually(t, maxWait, func() bool { return len(w.tasks.Ended(emails, 10)) == 2 }, "two ends")
	w.create("waiting", "https://worker.test/200")
	w.bury("letter-1", "welcome", "no such user")
	w.bury("letter-2", "invoice", "card declined")
	return w
}

// TestPages looks at each page with real data on it.
func TestPages(t *testing.T) {
	w := lived(t)
	b := w.open()
	for _, tc := range []struct {
		path string
		says []string
	}{
		{"/", []string{"Queues", "shop in europe-west1", "emails", "paused", "of 500", "of 1,000", "3 dispatches", "live"}},
		{page, []string{"Throughput", "Outcomes", "Lag behind schedule", "waiting", "POST /200", "Run now", "Ended last", "succeeded", "given up", "502 Bad Gateway", "live"}},
		{page + "?q=wait&status=waiting", []string{"waiting", "Searched 1 tasks."}},
		{page + "/tasks/bad", []string{"Created", "Dispatch 1", "Dispatch 2", "Dispatch 3", "502 Bad Gateway after", "Given up", "Show the payload"}},
		{page + "/tasks/good", []string{"Dispatch 1", "200 OK after", "Succeeded"}},
		{page + "/tasks/waiting", []string{"Next dispatch", "Content-Type", "application/json", "Show the payload"}},
		{page + "/tasks/waiting?payload=shown", []string{`"user": "ada"`, "14 bytes"}},
		{page + "/tasks/waiting/delete", []string{"for good"}},
		{page + "/purge", []string{"1 tasks", "Type emails to go on"}},
		{"/dead", []string{"Dead letters 2", "invoice 1", "welcome 1", "permanent 2", "no such user", "card declined"}},
		{"/dead?q=card", []string{"card declined", "Searched 2 letters"}},
		{"/dead/letter?id=letter-1", []string{"no such user", "permanent", "task-of-letter-1", "12 bytes"}},
		{"/dead/redrive?kind=invoice", []string{"1 letter matches now: kind invoice"}},
		{"/dead/progress", []string{"None was started"}},
	} {
		b.goTo(tc.path)
		b.see(tc.says...)
	}
}

// TestCharts: bars show what happened, and the time before is marked as not
// observed.
func TestCharts(t *testing.T) {
	w := lived(t)
	b := w.open()
	b.goTo(page + "?span=1m")
	b.see("succeeded 1", "failed (5xx) 3", "dispatched 4")
	assert.Equal(t, eval[bool](b, `document.querySelectorAll('.chart rect.good').length >= 1`), true)
	assert.Equal(t, eval[bool](b, `document.querySelectorAll('.chart rect.bad').length >= 1`), true)
	assert.Equal(t, eval[int](b, `document.querySelectorAll('.chart rect.unseen').length`), 3)
	assert.Equal(t, eval[bool](b, `[...document.querySelectorAll('.chart svg')].every(s => s.getAttribute('aria-label').length > 40)`), true)
}

// TestWithoutScript: without JavaScript everything can be read, and every action
// works.
func TestWithoutScript(t *testing.T) {
	w := lived(t)
	b := w.open()
	b.do(browser.Command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}))
	click := func(what, leadsTo string) {
		b.await(what)
		b.do(chromedp.Click(what), chromedp.WaitVisible(leadsTo))
	}
	b.goTo("/")
	click(`//a[.="emails"]`, `.chart`)
	click(`//a[.="waiting"]`, `.life`)
	b.goTo(page)
	click(`//main//button[.="Resume"]`, `.notice`)
	assert.Equal(t, w.state(), cloudtaskspb.Queue_RUNNING)
}

// TestNarrow: on a phone no page is wider than the screen.
func TestNarrow(t *testing.T) {
	w := lived(t)
	w.create("a-name-that-is-long-"+fmt.Sprintf("%0200d", 1), "https://worker.test/200")
	b := w.open()
	b.do(browser.Command(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: 360, Height: 740, DeviceScaleFactor: 2, Mobile: true}))
	for _, path := range []string{"/", page, page + "/tasks/bad", page + "/tasks/waiting?payload=shown", page + "/purge", "/dead", "/dead/letter?id=letter-1"} {
		b.goTo(path)
		b.do(chromedp.WaitVisible("h1"))
		if wide := eval[int](b, `document.documentElement.scrollWidth`); wide > 360 {
			t.Errorf("%s is %d wide", path, wide)
		}
	}
}

// TestKeyboard: the pages can be used without a mouse.
func TestKeyboard(t *testing.T) {
	w := lived(t)
	b := w.open()
	b.goTo(page)
	b.see("live")
	focus := func() string {
		return eval[string](b, `document.activeElement.getAttribute('name') || document.activeElement.textContent.trim()`)
	}
	b.do(chromedp.KeyEvent(kb.Tab))
	assert.Equal(t, focus(), "Skip to content")
	b.do(chromedp.KeyEvent(kb.Enter), chromedp.KeyEvent(kb.Tab))
	assert.Equal(t, focus(), "Resume")
	// With its text, as a keyboard sends it: the character is typed unless the page
	// handles the key.
	b.do(browser.Command(input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: "/", Text: "/"}),
		browser.Command(input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyUp, Key: "/"}))
	assert.Equal(t, focus(), "q")
	b.do(chromedp.KeyEvent("wait/ing"), chromedp.KeyEvent(kb.Enter))
	b.see("No match.")
	assert.Equal(t, eval[string](b, `document.querySelector('[name=q]').value`), "wait/ing")
}

// TestSemantics checks what screen readers rely on: every field and button has a
// name, every table a caption and headers, every page one h1.
func TestSemantics(t *testing.T) {
	w := lived(t)
	b := w.open()
	for _, path := range []string{"/", page, page + "/tasks/bad", page + "/tasks/waiting", page + "/purge", "/dead", "/dead/letter?id=letter-1"} {
		b.goTo(path)
		b.do(chromedp.WaitVisible("h1"))
		faults := eval[[]string](b, `[
			...[...document.querySelectorAll('h1')].slice(1).map(() => 'a second h1'),
			...[...document.querySelectorAll('main, nav')].length === 2 ? [] : ['no landmarks'],
			...[...document.querySelectorAll('input:not([type=hidden]), select')].filter(e => !e.labels?.length && !e.ariaLabel).map(e => 'no label: ' + e.outerHTML),
			...[...document.querySelectorAll('button, a, summary')].filter(e => !(e.ariaLabel || e.textContent).trim()).map(e => 'no name: ' + e.outerHTML),
			...[...document.querySelectorAll('table')].filter(e => !e.caption || !e.querySelector('th[scope=col]') || !e.querySelector('th[scope=row]')).map(e => 'a table without heads'),
			...[...document.querySelectorAll('svg')].filter(e => e.getAttribute('aria-hidden') !== 'true' && !(e.getAttribute('role') === 'img' && e.getAttribute('aria-label'))).map(() => 'an svg without a name'),
			...[...document.querySelectorAll('[id]')].map(e => e.id).filter((id, i, all) => all.indexOf(id) !== i).map(id => 'two of id ' + id),
		]`)
		assert.Equal(t, faults, []string{})
	}
}

// TestManyTasks: the page of a queue with 100,000 tasks opens and is live.
func TestManyTasks(t *testing.T) {
	w := setup(t)
	w.fill(100_000)
	b := w.open()
	began := time.Now()
	b.goTo(page)
	b.see("100,000", "Next page", "live")
	t.Logf("open and live after %v", time.Since(began))
	assert.Equal(t, eval[int](b, `document.querySelectorAll('.tasks tbody tr').length`), 50)
	b.press("Next page")
	b.see("First page", "Next page")
	b.goTo(page + "?q=" + fmt.Sprintf("task-%06d", 98765))
	b.see("task-098765", "Searched 100,000 tasks.")
}

// fill creates tasks in batches.
func (w *world) fill(n int) {
	w.Helper()
	const batch = 100
	for from := 0; from < n; from += batch {
		req := &cloudtaskspb.BatchCreateTasksRequest{Parent: emails}
		for i := from; i < min(from+batch, n); i++ {
			req.Requests = append(req.Requests, &cloudtaskspb.CreateTaskRequest{Parent: emails, Task: &cloudtaskspb.Task{
				Name:        fmt.Sprintf("%s/tasks/task-%06d", emails, i),
				MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{Url: "https://worker.test/200"}},
			}})
		}
		_, err := w.api.BatchCreateTasks(w.Context(), req)
		assert.NoError(w, err)
	}
}
