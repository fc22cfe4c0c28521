package browser_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/dashboard"
	"github.com/brillconsulting/handoff/dashboard/emulatorsource"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/memstore"
	"github.com/chromedp/cdproto"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff/internal/integration/browser"
)

// maxWait is how long a page may take on a loaded machine.
const maxWait = 30 * time.Second

const (
	place  = "projects/shop/locations/europe-west1"
	emails = place + "/queues/emails"
	page   = "/queues/shop/europe-west1/emails"
)

// chromium is the context of the Chromium that all tests share; nil if it is not
// installed.
var chromium context.Context

func TestMain(m *testing.M) { os.Exit(startAndRun(m)) }

func startAndRun(m *testing.M) int {
	path := browser.Find()
	if path == "" {
		if os.Getenv("HANDOFF_REQUIRE_BROWSER") != "" {
			fmt.Fprintln(os.Stderr, "chromium is not installed, and HANDOFF_REQUIRE_BROWSER is set")
			return 1
		}
		return m.Run()
	}
	profile, err := os.MkdirTemp("", "chromium")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(profile)
	ctx, stop, err := browser.Start(context.Background(), path, profile)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer stop()
	chromium = ctx //nolint:fatcontext // assigned once
	return m.Run()
}

// world is a dashboard over an emulator and a dead-letter store.
type world struct {
	*testing.T
	tasks   *emulator.Server
	api     cloudtaskspb.CloudTasksClient
	letters *memstore.DeadLetters
	store   *memstore.Store
	server  *httptest.Server
}

// setup serves a dashboard. The path of a task is the status of its response: /200,
// /404, /502.
func setup(t *testing.T, change ...func(*dashboard.Config)) *world {
	t.Helper()
	if chromium == nil {
		t.Skip("chromium is not installed (Debian's package chromium)")
	}
	w := &world{T: t, letters: memstore.NewDeadLetters(), store: memstore.New()}
	w.tasks = emulator.RunT(t, emulator.Config{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		status := http.StatusOK
		_, _ = fmt.Sscanf(filepath.Base(r.URL.Path), "%d", &status)
		rw.WriteHeader(status)
	})})
	w.api = cloudtaskspb.NewCloudTasksClient(w.tasks.Conn())
	w.queue(emails)
	w.pause()
	source, err := emulatorsource.New(w.tasks)
	assert.NoError(t, err)
	t.Cleanup(func() { _ = source.Close() })
	client, err := handoff.NewClient(t.Context(), handoff.ClientConfig{
		Project: "shop", Location: "europe-west1", Options: w.tasks.ClientOptions(),
		Target: handoff.HTTPTarget{URL: "https://worker.test/tasks", ServiceAccount: "tasks@shop.iam.gserviceaccount.com"},
	})
	assert.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	config := dashboard.Config{
		Source: source, DeadLetters: w.letters, Store: w.store, Client: client, Loopback: true, Logger: slog.New(slog.DiscardHandler),
	}
	for _, c := range change {
		c(&config)
	}
	board, err := dashboard.New(config)
	assert.NoError(t, err)
	w.server = httptest.NewServer(board)
	t.Cleanup(w.server.Close)
	t.Cleanup(board.Close) // before the server's Close, which waits for streams
	return w
}

func (w *world) queue(name string) {
	w.Helper()
	_, err := w.api.UpdateQueue(w.Context(), &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{
		Name: name, RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: 3},
	}})
	assert.NoError(w, err)
}

func (w *world) pause() {
	w.Helper()
	_, err := w.api.PauseQueue(w.Context(), &cloudtaskspb.PauseQueueRequest{Name: emails})
	assert.NoError(w, err)
}

func (w *world) state() cloudtaskspb.Queue_State {
	w.Helper()
	q, err := w.api.GetQueue(w.Context(), &cloudtaskspb.GetQueueRequest{Name: emails})
	assert.NoError(w, err)
	return q.GetState()
}

// create creates a task that is due in an hour.
func (w *world) create(id, address string, change ...func(*cloudtaskspb.HttpRequest)) string {
	w.Helper()
	r := &cloudtaskspb.HttpRequest{Url: address, Body: []byte(`{"user":"ada"}`), Headers: map[string]string{"Content-Type": "application/json"}}
	for _, c := range change {
		c(r)
	}
	name := emails + "/tasks/" + id
	_, err := w.api.CreateTask(w.Context(), &cloudtaskspb.CreateTaskRequest{Parent: emails, Task: &cloudtaskspb.Task{
		Name:         name,
		ScheduleTime: timestamppb.New(time.Now().Add(time.Hour)),
		MessageType:  &cloudtaskspb.Task_HttpRequest{HttpRequest: r},
	}})
	assert.NoError(w, err)
	return name
}

func (w *world) run(name string) {
	w.Helper()
	_, err := w.api.RunTask(w.Context(), &cloudtaskspb.RunTaskRequest{Name: name})
	assert.NoError(w, err)
}

func (w *world) bury(id, kind, lastErr string) {
	w.Helper()
	assert.NoError(w, w.letters.Put(context.Background(), handoff.DeadLetter{
		ID: id, Kind: kind, Queue: "emails", Task: "task-of-" + id, Target: "https://worker.test/tasks/" + kind,
		Header: map[string][]string{"X-Note": {lastErr}}, Payload: []byte(lastErr),
		Reasons: []handoff.Reason{handoff.ReasonPermanent}, Attempts: 1, LastErr: lastErr, BuriedAt: time.Now(),
	}))
}

func (w *world) buried() int {
	w.Helper()
	counts, err := w.letters.CountByKind(w.Context())
	assert.NoError(w, err)
	n := 0
	for _, c := range counts {
		n += c
	}
	return n
}

// tab is an open page, and records what it must not do.
type tab struct {
	*world
	ctx context.Context

	mu       sync.Mutex
	amiss    []string
	tolerate func(message string) bool // reports whether the test expects the message; nil for none
}

// open opens a tab. The test fails at its end if there was an error on the console
// or a request to another host.
func (w *world) open() *tab {
	w.Helper()
	ctx, cancel := chromedp.NewContext(chromium)
	w.Cleanup(cancel)
	b := &tab{world: w, ctx: ctx}
	// Not with do: the tab lives as long as the context of its first action.
	assert.NoError(w, chromedp.Listen(ctx, b.observe))
	b.do(browser.Command(network.Enable, network.EnableParams{}), browser.Command(log.Enable, cdp.Empty{}),
		browser.Command(runtime.Enable, cdp.Empty{}), browser.Command(cdppage.BringToFront, cdp.Empty{}))
	w.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, message := range b.amiss {
			if b.tolerate == nil || !b.tolerate(message) {
				w.Errorf("in the browser: %s", message)
			}
		}
	})
	return b
}

func (b *tab) observe(event any) {
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		u, err := url.Parse(e.Request.URL)
		if err != nil || u.Scheme != "about" && "http://"+u.Host != b.server.URL {
			b.note("request to " + e.Request.URL)
		}
	case *runtime.EventConsoleAPICalled:
		for _, arg := range e.Args {
			b.note(fmt.Sprintf("console %s: %s %s", e.Type, arg.Value, arg.Description))
		}
	case *runtime.EventExceptionThrown:
		b.note("exception: " + (&chromedp.ExceptionError{ExceptionDetails: e.ExceptionDetails}).Error())
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			b.note(fmt.Sprintf("log: %s (%s)", e.Entry.Text, e.Entry.URL))
		}
	}
}

func (b *tab) note(message string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.amiss = append(b.amiss, message)
}

func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, maxWait)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.Fatalf("%v; the page:\n%s", err, b.text())
	}
}

// text returns the visible text of the page.
func (b *tab) text() string {
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	text, _ := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
	return text
}

func (b *tab) goTo(path string) {
	b.Helper()
	b.do(chromedp.Navigate(b.server.URL + path))
}

// see waits until the page shows all of the texts.
func (b *tab) see(texts ...string) {
	b.Helper()
	var text, lacks string
	for end := time.Now().Add(maxWait); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		text, lacks = b.text(), ""
		for _, want := range texts {
			if !strings.Contains(text, want) {
				lacks = want
			}
		}
		if lacks == "" {
			return
		}
	}
	b.Fatalf("the page does not say %q:\n%s", lacks, text)
}

// press clicks the button or link with this label.
func (b *tab) press(label string) {
	b.Helper()
	b.click(fmt.Sprintf(`//main//*[self::button or self::a or self::summary][normalize-space()=%q]`, label))
}

// click clicks the element of a selector, and retries if the click missed it: a
// live page may change between the lookup and the click.
func (b *tab) click(what string) {
	b.Helper()
	const watch = `missed = true;
		addEventListener("click", e => { missed = !e.target.closest("a, button, input, summary") }, { capture: true, once: true })`
	for range 5 {
		b.await(what)
		b.do(chromedp.Evaluate[chromedp.Void](watch))
		ctx, cancel := context.WithTimeout(b.ctx, maxWait)
		err := chromedp.Do(ctx, chromedp.Click(what))
		cancel()
		gone := (*cdproto.Error)(nil)
		if err != nil && !errors.As(err, &gone) {
			b.Fatalf("click %s: %v; the page:\n%s", what, err, b.text())
		}
		if err == nil && !b.holds("missed") {
			return
		}
	}
	b.Fatalf("clicks on %s miss it; the page:\n%s", what, b.text())
}

// await waits until the element of a selector can be clicked: elements move when
// the style sheet arrives, and Chromium drops clicks before the first frame.
func (b *tab) await(what string) {
	b.Helper()
	b.do(chromedp.WaitVisible(what))
	assert.Eventually(b, maxWait, func() bool {
		return b.holds(`document.readyState === "complete" && performance.getEntriesByType("paint").length > 0`)
	}, "the page to be drawn")
}

// holds reports whether the script returns true. It also returns false while the
// tab navigates.
func (b *tab) holds(script string) bool {
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	holds, err := chromedp.Run(ctx, chromedp.Evaluate[bool](script))
	return err == nil && holds
}

func eval[T any](b *tab, script string, options ...chromedp.EvaluateOption) T {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, maxWait)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](script, options...))
	if err != nil {
		b.Fatalf("%v; the page:\n%s", err, b.text())
	}
	return value
}
