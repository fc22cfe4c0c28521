package browser_test

import (
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/chromedp/chromedp"
)

func TestPauseAndResume(t *testing.T) {
	w := setup(t)
	b := w.open()
	b.goTo("/")
	b.press("Resume")
	b.see("The queue is running.")
	assert.Equal(t, w.state(), cloudtaskspb.Queue_RUNNING)
	b.press("Pause")
	b.see("The queue is paused.")
	assert.Equal(t, w.state(), cloudtaskspb.Queue_PAUSED)
}

func TestPurge(t *testing.T) {
	w := setup(t)
	w.create("one", "https://worker.test/200")
	b := w.open()
	b.goTo(page)
	b.press("Purge…")
	b.see("Type emails to go on")
	// The browser does not submit the form while the field is empty.
	b.press("Purge the queue")
	assert.Equal(t, eval[bool](b, `document.querySelector('[name=confirm]').matches(':invalid')`), true)
	assert.Equal(t, len(w.tasks.Tasks(emails)), 1)
	b.do(chromedp.SendKeys(`[name=confirm]`, "emails"))
	b.press("Purge the queue")
	b.see("The purge has begun.", "No tasks are waiting.")
	assert.Equal(t, len(w.tasks.Tasks(emails)), 0)
}

func TestRunNow(t *testing.T) {
	w := setup(t)
	name := w.create("flaky", "https://worker.test/502")
	b := w.open()
	b.goTo(page)
	b.press("Run now")
	b.see("The task is being dispatched.", "Dispatch 1", "502 Bad Gateway")
	life, _ := w.tasks.Life(name)
	assert.Equal(t, len(life.Dispatches), 1)
}

func TestDelete(t *testing.T) {
	w := setup(t)
	w.create("one", "https://worker.test/200")
	b := w.open()
	b.goTo(page + "/tasks/one")
	b.press("Delete…")
	b.see("for good")
	b.press("Cancel")
	b.see("Show the payload")
	b.press("Delete…")
	b.press("Delete the task")
	b.see("The task is deleted.")
	assert.Equal(t, len(w.tasks.Tasks(emails)), 0)
}

func TestPayloadIsHiddenUntilAsked(t *testing.T) {
	w := setup(t)
	w.create("one", "https://worker.test/200")
	b := w.open()
	b.goTo(page + "/tasks/one")
	b.press("Show the payload")
	b.see(`"user": "ada"`)
	b.press("Hide the payload")
	b.see("Show the payload")
}

func TestRedriveOne(t *testing.T) {
	w := setup(t)
	w.bury("letter-1", "welcome", "no such user")
	b := w.open()
	b.goTo("/dead")
	b.press("letter-1")
	b.see("Last error")
	b.press("Redrive")
	b.see("The letter is enqueued again.", "Nothing is dead.")
	assert.Equal(t, []int{w.buried(), len(w.tasks.Tasks(emails))}, []int{0, 1})
}

func TestDeleteLetter(t *testing.T) {
	w := setup(t)
	w.bury("letter-1", "welcome", "no such user")
	b := w.open()
	b.goTo("/dead/letter?id=letter-1")
	b.press("Delete…")
	b.press("Delete the letter")
	b.see("The letter is deleted.")
	assert.Equal(t, []int{w.buried(), len(w.tasks.Tasks(emails))}, []int{0, 0})
}

func TestRedriveSelected(t *testing.T) {
	w := setup(t)
	for _, id := range []string{"letter-1", "letter-2", "letter-3"} {
		w.bury(id, "welcome", "no such user")
	}
	b := w.open()
	b.goTo("/dead")
	b.click(`input[value="letter-2"]`)
	b.press("Redrive the selected")
	b.see("Redrive done", "1 of 1 letters")
	letter, err := w.letters.Get(t.Context(), "letter-2")
	assert.NoError(t, err)
	assert.Equal(t, letter.RedrivenAt.IsZero(), false)
	assert.Equal(t, []int{w.buried(), len(w.tasks.Tasks(emails))}, []int{2, 1})

	b.goTo("/dead")
	b.click(`[data-all]`)
	b.press("Redrive the selected")
	b.see("Redrive done", "2 of 2 letters")
	assert.Equal(t, []int{w.buried(), len(w.tasks.Tasks(emails))}, []int{0, 3})
}

// TestRedriveAll checks that the page shows the progress of a slow redrive.
func TestRedriveAll(t *testing.T) {
	w := setup(t)
	for i := range 40 {
		w.bury("letter-"+string(rune('A'+i)), "welcome", "no such user")
	}
	w.bury("other", "invoice", "card declined")
	w.tasks.InjectCall(emulator.CallFault{Method: "CreateTask", Delay: 200 * time.Millisecond})
	b := w.open()
	b.goTo("/dead?kind=welcome")
	b.press("Redrive all that match…")
	b.see("40 letters match now: kind welcome")
	b.press("Redrive 40 letters")
	b.see("Redriving", "Stop")
	b.see("Redrive done", "40 of 40 letters") // without a reload
	assert.Equal(t, []int{w.buried(), len(w.tasks.Tasks(emails))}, []int{1, 40})
}
