package browser_test

import (
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/chromedp/chromedp"
)

// TestLive: a page shows changes without a reload, and the user keeps the focus,
// the typed text and the ticked boxes.
func TestLive(t *testing.T) {
	w := setup(t)
	w.create("first", "https://worker.test/200")
	b := w.open()
	b.goTo(page)
	b.see("live", "first")
	eval[int](b, `window.loadedOnce = 1`)
	b.do(chromedp.SendKeys(`[name=q]`, "half a wo"))
	w.create("second", "https://worker.test/200")
	b.see("second")
	_, err := w.api.ResumeQueue(t.Context(), &cloudtaskspb.ResumeQueueRequest{Name: emails})
	assert.NoError(t, err)
	b.see("running", "Pause")
	assert.NoError(t, err)
	_, err = w.api.DeleteTask(t.Context(), &cloudtaskspb.DeleteTaskRequest{Name: emails + "/tasks/first"})
	assert.NoError(t, err)
	assert.Eventually(t, maxWait, func() bool {
		return eval[int](b, `document.querySelectorAll('.tasks tbody tr').length`) == 1
	}, "the deleted task to go")
	assert.Equal(t, eval[int](b, `window.loadedOnce`), 1)
	assert.Equal(t, eval[string](b, `document.activeElement.name + ':' + document.activeElement.value`), "q:half a wo")
}

func TestLiveKeepsTicks(t *testing.T) {
	w := setup(t)
	w.bury("letter-1", "welcome", "no such user")
	b := w.open()
	b.goTo("/dead")
	b.see("live")
	b.click(`input[value="letter-1"]`)
	w.bury("letter-2", "welcome", "no such user") // newer, so it is listed first
	b.see("letter-2")
	assert.Equal(t, eval[[]string](b, `[...document.querySelectorAll('tbody input:checked')].map(e => e.value)`), []string{"letter-1"})
	assert.Equal(t, eval[[]string](b, `[...document.querySelectorAll('tbody input')].map(e => e.value)`), []string{"letter-2", "letter-1"})
	assert.Equal(t, eval[bool](b, `!document.querySelector('[data-all]').hidden`), true)
}

// TestLiveTask follows one task to its end.
func TestLiveTask(t *testing.T) {
	w := setup(t)
	name := w.create("one", "https://worker.test/200")
	b := w.open()
	b.goTo(page + "/tasks/one")
	b.see("live", "Next dispatch")
	w.run(name)
	b.see("Dispatch 1", "200 OK", "Succeeded")
}

// TestServerGoesAway: the page says that it is no longer live.
func TestServerGoesAway(t *testing.T) {
	w := setup(t)
	b := w.open()
	b.tolerate = func(string) bool { return true } // the browser logs that it cannot connect
	b.goTo(page)
	b.see("live")
	w.server.CloseClientConnections()
	w.server.Listener.Close()
	b.see("reconnecting")
}

// TestLiveSteps follows long work from step to step, and checks that the names and
// positions of steps are shown as text.
func TestLiveSteps(t *testing.T) {
	w := setup(t)
	id := "AAAAAAAAAAAAAAAAAAAAAA"
	w.create("long", "https://worker.test/200", func(r *cloudtaskspb.HttpRequest) {
		r.Headers["Handoff-Version"], r.Headers["Handoff-Id"] = "1", id
	})
	l := handoff.Lease{Key: id, Owner: "worker", TTL: time.Minute, Window: time.Hour}
	_, err := w.store.Claim(t.Context(), l)
	assert.NoError(t, err)
	keep := func(memo string) { assert.NoError(t, w.store.Keep(t.Context(), l, []byte(memo))) }
	keep(`{"v":1,"done":[{"n":"download"}]}`)
	b := w.open()
	b.goTo(page + "/tasks/long?payload=shown")
	b.see("live", "Finished", "download", "Running", "a step without a position")
	eval[int](b, `window.loadedOnce = 1`)
	keep(`{"v":1,"done":[{"n":"download"}],"at":{"n":"rows","r":4711}}`)
	b.see("rows", "Position", "4711")
	keep(`{"v":1,"done":[{"n":"download"}],"at":{"n":"<script>window.hit=1</script>","r":"<img src=/x onerror=window.hit=2>"}}`)
	b.see("<script>window.hit=1</script>", `"<img src=/x onerror=window.hit=2>"`)
	assert.Equal(t, eval[bool](b, `window.hit === undefined && window.loadedOnce === 1`), true)
	assert.NoError(t, w.store.Complete(t.Context(), l))
	assert.Eventually(t, maxWait, func() bool { return eval[bool](b, `document.querySelector('#steps') === null`) }, "the steps to go")
}
