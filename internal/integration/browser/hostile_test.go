package browser_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/chromedp/chromedp"

	"github.com/brillconsulting/handoff/internal/integration/browser"
)

const hostile = `"><script>window.hit=1</script><img src=/x onerror=window.hit=2><svg onload=window.hit=3>{{.}}</textarea></pre>`

// TestHostileTextIsInert: hostile text is shown literally and never executed, also
// when a live update brings it.
func TestHostileTextIsInert(t *testing.T) {
	w := setup(t)
	b := w.open()
	b.goTo(page)
	b.see("live", "No tasks are waiting.")
	w.create("hostile", "https://worker.test/"+url.PathEscape(hostile), func(r *cloudtaskspb.HttpRequest) {
		r.Headers["X-Note"] = hostile
		r.Body = []byte(hostile)
	})
	b.see("hostile", "<script>window.hit=1</script>")
	b.goTo("/dead")
	b.see("live", "Nothing is dead.")
	w.bury(hostile, hostile, hostile)
	b.see("<img src=/x onerror=window.hit=2>")
	query := url.QueryEscape(hostile)
	for _, path := range []string{
		page, page + "/tasks/hostile?payload=shown", page + "?q=" + query + "&kind=" + query,
		"/dead", "/dead?q=" + query, "/dead/letter?payload=shown&id=" + query, "/dead/redrive?kind=" + query,
	} {
		b.goTo(path)
		b.do(chromedp.WaitVisible("h1"))
		assert.Equal(t, eval[bool](b, `window.hit === undefined`), true)
		assert.Equal(t, eval[int](b, `document.querySelectorAll('main script, main img, main svg[onload]').length`), 0)
	}
	b.goTo("/dead/letter?payload=shown&id=" + query)
	assert.Equal(t, eval[string](b, `[...document.querySelectorAll('pre')].at(-1).textContent`), hostile)
}

// TestPolicyHolds: even an injected element could not run or load anything, because
// of the Content-Security-Policy.
func TestPolicyHolds(t *testing.T) {
	w := setup(t)
	b := w.open()
	b.tolerate = func(string) bool { return true } // the browser logs what it refused
	b.goTo(page)
	b.see("live")
	eval[int](b, `(() => {
		window.refused = [];
		document.addEventListener('securitypolicyviolation', (e) => window.refused.push(e.effectiveDirective));
		const add = (name, set) => document.body.append(Object.assign(document.createElement(name), set));
		add('script', { textContent: 'window.hit = 1' });
		add('script', { src: 'http://other.example/x.js' });
		add('img', { src: 'http://other.example/x.png' });
		add('style', { textContent: 'body { color: red }' });
		add('iframe', { src: 'http://other.example/' });
		fetch('http://other.example/').catch(() => {});
		return 0;
	})()`)
	assert.Eventually(t, maxWait, func() bool {
		refused := eval[[]string](b, `window.refused`)
		slices.Sort(refused)
		return slices.Equal(refused, []string{"connect-src", "frame-src", "img-src", "script-src-elem", "script-src-elem", "style-src-elem"})
	}, "the policy to refuse all of it")
	assert.Equal(t, eval[bool](b, `window.hit === undefined`), true)
}

// TestForgedPost: a page of another site makes the browser post a form with the
// dashboard's cookies, and nothing changes. TestPauseAndResume shows that the same
// form works on the dashboard itself.
func TestForgedPost(t *testing.T) {
	w := setup(t)
	b := w.open()
	b.tolerate = func(string) bool { return true } // it goes to another site, on purpose
	b.goTo(page)                                   // the browser has the cookie now
	b.see("Resume")
	evil := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(rw, `<!doctype html><title>kittens</title><form method="post" action="%s%s/resume"><input name="token" value="x"></form><script>document.forms[0].submit()</script>`, w.server.URL, page)
	}))
	t.Cleanup(evil.Close)
	for _, host := range []string{"127.0.0.1", "localhost"} { // the same site by another port, and another site
		b.do(chromedp.Navigate(strings.Replace(evil.URL, "127.0.0.1", host, 1)))
		b.see("Forbidden")
		assert.Equal(t, w.state(), cloudtaskspb.Queue_PAUSED)
	}
}

// TestOtherSitesGetNothing: a page of another site cannot load the dashboard as an
// image, script, frame or fetch, and the dashboard does no work for the attempt. A
// link from there works.
func TestOtherSitesGetNothing(t *testing.T) {
	w := setup(t)
	b := w.open()
	b.tolerate = func(string) bool { return true } // it goes to another site, on purpose
	statuses := make(chan int, 100)
	board := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		status := statusWriter{ResponseWriter: rw, status: http.StatusOK}
		w.server.Config.Handler.ServeHTTP(&status, r)
		if r.URL.Path == "/dead/redrive" {
			statuses <- status.status
		}
	}))
	t.Cleanup(board.Close)
	evil := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(rw, `<!doctype html><title>kittens</title><img src="%[1]s/dead/redrive"><iframe src="%[1]s/dead/redrive"></iframe>
			<script src="%[1]s/dead/redrive"></script><script>fetch("%[1]s/dead/redrive", {mode: "no-cors"}).catch(() => {})</script><main><a href="%[1]s/dead">the letters</a></main>`, board.URL)
	}))
	t.Cleanup(evil.Close)
	for _, host := range []string{"127.0.0.1", "localhost", browser.ReboundName} {
		b.do(chromedp.Navigate(strings.Replace(evil.URL, "127.0.0.1", host, 1)))
		for range 4 {
			select {
			case status := <-statuses:
				assert.Status(t, status, http.StatusForbidden)
			case <-time.After(maxWait):
				t.Fatalf("a page of %s: the browser sent fewer than four requests", host)
			}
		}
		b.press("the letters")
		b.see("Nothing is dead.")
		b.do(chromedp.Navigate("about:blank")) // ends the stream of the page
	}
}

// statusWriter records the status of a response.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// TestRebinding: a page whose name resolves to this machine reads nothing.
func TestRebinding(t *testing.T) {
	w := setup(t)
	b := w.open()
	b.tolerate = func(string) bool { return true }
	b.do(chromedp.Navigate(strings.Replace(w.server.URL, "127.0.0.1", browser.ReboundName, 1) + page))
	b.see("Forbidden")
}
