package browser_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/chromedp/chromedp"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/brillconsulting/handoff/internal/integration/browser"
)

// attack is a script that tries everything a page can do to the emulator at base,
// and returns what it could read.
const attack = `(async (base, place, queue) => {
	const read = [];
	const quietly = async (what) => { try { return await what } catch { return undefined } };
	const task = JSON.stringify({ task: { httpRequest: { url: "https://worker.test/200", body: "eA==" } } });
	const posts = [
		["/v2/" + place + "/queues", JSON.stringify({ name: place + "/queues/forged" })],
		["/v2/" + queue + "/tasks", task],
		["/" + queue + "/tasks", task],
		["/v2/" + queue + "/tasks:buffer", "x"],
		["/v2/" + queue + ":purge", "{}"],
		["/emulator/reset", ""],
	];
	for (const [path, body] of posts) {
		for (const mode of ["no-cors", "cors", "same-origin"]) {
			const response = await quietly(fetch(base + path, { method: "POST", mode, body }));
			if (response?.ok) read.push(path);
		}
		navigator.sendBeacon(base + path, body);
		const frame = Object.assign(document.createElement("iframe"), { name: "f" + Math.random() });
		const form = Object.assign(document.createElement("form"), { method: "post", enctype: "text/plain", action: base + path, target: frame.name });
		form.append(Object.assign(document.createElement("input"), { name: body + "=" }));
		document.documentElement.append(frame, form);
		await new Promise((resolve) => { frame.onload = resolve; form.submit() });
	}
	const gets = ["/v2/" + place + "/queues", "/v2/" + queue + "/tasks?responseView=FULL", "/emulator/wait?timeout=1ms", "/oauth2/v3/certs"];
	for (const path of gets) {
		const response = await quietly(fetch(base + path));
		if (response?.ok) read.push(path + ": " + await response.text());
	}
	for (const path of [...gets, "/v2/" + queue + "/tasks:buffer"]) {
		await new Promise((done) => Object.assign(new Image(), { onload: done, onerror: done }).src = base + path);
		await new Promise((done) => {
			const script = Object.assign(document.createElement("script"), { src: base + path, onload: () => { read.push("script " + path); done() }, onerror: done });
			document.documentElement.append(script);
		});
	}
	return read;
})(%q, %q, %q)`

// TestEmulatorIsClosedToPages: a page of another origin in a developer's browser
// cannot create, buffer, reset or read anything, even if its name resolves to the
// emulator's address.
func TestEmulatorIsClosedToPages(t *testing.T) {
	w := setup(t)
	w.create("secret-task", "https://worker.test/200")
	host := "worker.test"
	_, err := w.api.UpdateQueue(t.Context(), &cloudtaskspb.UpdateQueueRequest{ // so that tasks can be buffered
		Queue:      &cloudtaskspb.Queue{Name: emails, HttpTarget: &cloudtaskspb.HttpTarget{UriOverride: &cloudtaskspb.UriOverride{Host: &host}}},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"http_target"}},
	})
	assert.NoError(t, err)
	port := httptest.NewServer(w.tasks.HTTPHandler())
	t.Cleanup(port.Close)
	evil := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprint(rw, "<!doctype html><title>kittens</title>")
	}))
	t.Cleanup(evil.Close)
	named := func(server *httptest.Server, name string) string {
		u, err := url.Parse(server.URL)
		assert.NoError(t, err)
		return "http://" + name + ":" + u.Port()
	}
	b := w.open()
	b.tolerate = func(string) bool { return true } // the browser logs what it refused
	for _, tc := range []struct{ name, page, target string }{
		{"another port", evil.URL, port.URL},
		{"another site", named(evil, "localhost"), port.URL},
		{"another site by name", named(evil, browser.ReboundName), named(port, "localhost")},
		{"another site, to the network", evil.URL, named(port, browser.NetworkName)},
		{"a rebound name", named(port, browser.ReboundName), named(port, browser.ReboundName)},
	} {
		b.do(chromedp.Navigate(tc.page))
		read := eval[[]string](b, fmt.Sprintf(attack, tc.target, place, emails), chromedp.EvalAwaitPromise)
		if len(read) > 0 {
			t.Errorf("%s: the page got responses: %q", tc.name, read)
		}
		// A link also sends a GET, and BufferTask accepts GET.
		b.do(chromedp.Navigate(tc.page), chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`location.href = %q`, tc.target+"/v2/"+emails+"/tasks:buffer")))
		b.see("PERMISSION_DENIED")
		w.unharmed(tc.name)
	}

	// The same script on the emulator's own page is allowed, so the origin was the
	// reason for the refusals.
	b.do(chromedp.Navigate(port.URL + "/"))
	read := eval[[]string](b, fmt.Sprintf(attack, port.URL, place, emails), chromedp.EvalAwaitPromise)
	if !strings.Contains(strings.Join(read, " "), "/emulator/reset") {
		t.Errorf("the emulator's own page got %q", read)
	}
}

// unharmed checks that the emulator still has exactly the queue and the task of the
// test.
func (w *world) unharmed(after string) {
	w.Helper()
	queues := w.tasks.Queues()
	tasks, err := w.api.ListTasks(w.Context(), &cloudtaskspb.ListTasksRequest{Parent: emails})
	assert.NoError(w, err)
	if len(queues) != 1 || len(tasks.GetTasks()) != 1 {
		w.Fatalf("after %s: %d queues and %d tasks, want 1 and 1", after, len(queues), len(tasks.GetTasks()))
	}
}
