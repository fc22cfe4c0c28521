package handoff_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/labstack/echo/v4"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/wire"
	"github.com/brillconsulting/handoff/memstore"
)

const (
	crmAccount = "crm@p.iam.gserviceaccount.com"
	ownAccount = "caller@p.iam.gserviceaccount.com" // of newEmulatedClient
	workerURL  = "https://worker.example.com"
)

// crm is a producer that does not use handoff: it creates tasks with the plain
// client. An emulator delivers them, with signed tokens, to mux.
type crm struct {
	*fixture
	mux     *http.ServeMux
	srv     *emulator.Server
	tasks   cloudtaskspb.CloudTasksClient
	letters *memstore.DeadLetters
	mu      sync.Mutex
	got     []string // what the handlers received
}

func newCRM(t *testing.T, change func(*handoff.RouterConfig)) *crm {
	t.Helper()
	c := &crm{mux: http.NewServeMux()}
	c.srv = emulator.RunT(t, emulator.Config{Handler: c.mux})
	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{workerURL}, Callers: []string{crmAccount, ownAccount}, Keys: handoff.StaticKeys(c.srv.JWKS()),
	})
	assert.NoError(t, err)
	c.fixture = newFixture(t, func(rc *handoff.RouterConfig) {
		rc.DangerouslyAllowUnauthenticated, rc.Verifier = false, verifier
		if change != nil {
			change(rc)
		}
	})
	c.letters = c.fixture.letters
	c.tasks = cloudtaskspb.NewCloudTasksClient(c.srv.Conn())
	_, err = c.tasks.CreateQueue(t.Context(), &cloudtaskspb.CreateQueueRequest{
		Parent: "projects/p/locations/l",
		Queue: &cloudtaskspb.Queue{
			Name:        "projects/p/locations/l/queues/crm",
			RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: -1, MinBackoff: durationpb.New(1e9), MaxBackoff: durationpb.New(1e9)},
		},
	})
	assert.NoError(t, err)
	return c
}

// create creates a task with the plain client, and waits until the emulator is
// idle.
func (c *crm) create(t *testing.T, r *cloudtaskspb.HttpRequest) string {
	t.Helper()
	r.AuthorizationHeader = &cloudtaskspb.HttpRequest_OidcToken{OidcToken: &cloudtaskspb.OidcToken{ServiceAccountEmail: crmAccount, Audience: workerURL}}
	task, err := c.tasks.CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{
		Parent: "projects/p/locations/l/queues/crm",
		Task:   &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: r}},
	})
	assert.NoError(t, err)
	assert.NoError(t, c.srv.Wait(t.Context()))
	return task.GetName()
}

// record records a request as a handler sees it.
func (c *crm) record(ctx context.Context, req *http.Request) error {
	body, err := io.ReadAll(req.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, fmt.Sprintf("%s %s %s %q", req.Method, req.URL, req.Header.Get("Content-Type"), body))
	for _, name := range []string{"Authorization", "X-Serverless-Authorization"} {
		if req.Header.Get(name) != "" {
			return handoff.Permanent(errors.New("the request has " + name))
		}
	}
	if length := req.Header.Get("Content-Length"); length != "" && length != fmt.Sprint(len(body)) {
		return handoff.Permanent(errors.New("the Content-Length is " + length))
	}
	if info := handoff.InfoFromContext(ctx); info.Kind != "contact-changed" || info.Caller.Email != crmAccount || req.Context() != ctx {
		return handoff.Permanent(fmt.Errorf("info is %+v", info))
	}
	return err
}

func zipped(text string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return b.Bytes()
}

// Tasks of another producer arrive as they were created, wherever the handler is
// mounted.
func TestRaw(t *testing.T) {
	t.Parallel()
	type request = cloudtaskspb.HttpRequest
	for name, tc := range map[string]struct {
		task *request
		want string
	}{
		"XML": {
			&request{HttpMethod: cloudtaskspb.HttpMethod_POST, Url: workerURL + "/crm/contacts", Headers: map[string]string{"Content-Type": "application/xml"}, Body: []byte("<contact id='7'/>")},
			`POST /crm/contacts application/xml "<contact id='7'/>"`,
		},
		"protobuf": {
			&request{HttpMethod: cloudtaskspb.HttpMethod_PUT, Url: workerURL + "/crm/contacts", Headers: map[string]string{"Content-Type": "application/x-protobuf"}, Body: []byte{8, 150, 1, 0}},
			`PUT /crm/contacts application/x-protobuf "\b\x96\x01\x00"`,
		},
		"a form": {
			&request{HttpMethod: cloudtaskspb.HttpMethod_POST, Url: workerURL + "/crm/contacts?v=2", Headers: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, Body: []byte("id=7&name=A+B")},
			`POST /crm/contacts?v=2 application/x-www-form-urlencoded "id=7&name=A+B"`,
		},
		"empty":  {&request{HttpMethod: cloudtaskspb.HttpMethod_POST, Url: workerURL + "/crm/contacts"}, `POST /crm/contacts  ""`},
		"GET":    {&request{HttpMethod: cloudtaskspb.HttpMethod_GET, Url: workerURL + "/crm/contacts?id=7"}, `GET /crm/contacts?id=7  ""`},
		"DELETE": {&request{HttpMethod: cloudtaskspb.HttpMethod_DELETE, Url: workerURL + "/crm/contacts"}, `DELETE /crm/contacts  ""`},
		"gzip": {
			&request{HttpMethod: cloudtaskspb.HttpMethod_POST, Url: workerURL + "/crm/contacts", Headers: map[string]string{"Content-Encoding": "gzip"}, Body: zipped("<contact/>")},
			`POST /crm/contacts  "<contact/>"`,
		},
		"below a prefix": {&request{HttpMethod: cloudtaskspb.HttpMethod_POST, Url: workerURL + "/api/crm/contacts"}, `POST /crm/contacts  ""`},
		"below echo":     {&request{HttpMethod: cloudtaskspb.HttpMethod_POST, Url: workerURL + "/echo/7/changed"}, `POST /echo/7/changed  ""`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCRM(t, nil)
				raw := c.Raw("contact-changed", c.record)
				c.mux.Handle("/crm/contacts", raw)
				c.mux.Handle("/api/", http.StripPrefix("/api", raw))
				e := echo.New()
				e.Any("/echo/:id/changed", echo.WrapHandler(raw))
				c.mux.Handle("/echo/", e)
				c.create(t, tc.task)
				assert.Equal(t, c.got, []string{tc.want})
				c.noLetters(t)
			})
		})
	}
}

// The attempts of a foreign task are counted, and it is buried. Its letter has its
// URL, and a redrive goes to that URL.
func TestRawIsBuriedAndRedriven(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCRM(t, func(rc *handoff.RouterConfig) { rc.ForeignMaxAttempts = 2 })
		fails := true
		c.mux.Handle("/api/", http.StripPrefix("/api", c.Raw("contact-changed", func(ctx context.Context, req *http.Request) error {
			if req.Header.Get("Content-Encoding") != "br" {
				return handoff.Permanent(errors.New("the Content-Encoding of the body is missing"))
			}
			if err := c.record(ctx, req); err != nil || !fails {
				return err
			}
			return errors.New("the CRM is away")
		})))
		name := c.create(t, &cloudtaskspb.HttpRequest{
			HttpMethod: cloudtaskspb.HttpMethod_PUT, Url: workerURL + "/api/contacts?id=7",
			Headers: map[string]string{"Content-Type": "application/xml", "Content-Encoding": "br"}, Body: []byte("<contact/>"),
		})
		assert.Equal(t, len(c.got), 2)
		letter := c.onlyLetter(t)
		assert.Equal(t, letter.Method+" "+letter.Target, "PUT "+workerURL+"/api/contacts?id=7")
		assert.Equal(t, letter.Kind, "contact-changed")
		assert.Equal(t, letter.Reasons, []handoff.Reason{handoff.ReasonExhausted})
		assert.Equal(t, string(letter.Payload), "<contact/>")
		assert.Equal(t, name[len(name)-len(letter.Task):], letter.Task)

		fails = false
		client := newEmulatedClient(t, c.srv.ClientOptions())
		_, err := client.Redrive(t.Context(), c.letters, letter.ID)
		assert.NoError(t, err)
		assert.NoError(t, c.srv.Wait(t.Context()))
		assert.Equal(t, len(c.got), 3)
		assert.Equal(t, c.got[2], c.got[0])
		assert.Equal(t, c.got[2], `PUT /contacts?id=7 application/xml "<contact/>"`)
		c.noLetters(t) // it was redriven
	})
}

// A handler of Raw has the same pipeline as every other handler.
func TestRawPipeline(t *testing.T) {
	t.Parallel()
	b := newFixture(t, func(c *handoff.RouterConfig) { c.ForeignMaxAttempts, c.MaxBody = 3, 64 })
	fail := map[string]error{"snoozed": handoff.Snooze(1e9), "boom": errBoom, "gone": handoff.Drop(nil)}
	raw := b.Raw("contact-changed", func(_ context.Context, req *http.Request) error {
		body, err := io.ReadAll(req.Body)
		return errors.Join(err, fail[string(body)])
	})
	handoff.Handle(b.Router, func(context.Context, note) error { return nil })
	send := func(d task) int {
		rec := httptest.NewRecorder()
		raw.ServeHTTP(rec, d.request())
		return rec.Code
	}
	get := func(d task) int {
		req := d.request()
		req.Method, req.Body = http.MethodGet, http.NoBody
		rec := httptest.NewRecorder()
		raw.ServeHTTP(rec, req)
		return rec.Code
	}
	rawTask := func(name, body string) task { return task{kind: "any/path", name: name, body: body} }

	assert.Status(t, send(rawTask("a", "x")), 200)
	assert.Status(t, send(rawTask("a", "x")), 208)
	assert.Status(t, get(rawTask("b", "")), 200)
	assert.Status(t, send(rawTask("c", "gone")), 204)
	assert.Status(t, send(rawTask("d", "boom")), 500)
	assert.Status(t, send(rawTask("d", "boom")), 500)
	assert.Status(t, send(rawTask("d", "boom")), 205)
	assert.Status(t, send(rawTask("e", strings.Repeat("x", 65))), 413)
	assert.Status(t, send(rawTask("", "x")), 400)

	// A task of EnqueueRequest is identified by its ID. A typed task of another
	// kind is refused.
	own := rawTask("f", "x")
	own.stamp = wire.Stamp{ID: "REQUEST"}
	assert.Status(t, send(own), 200)
	own.name = "g"
	assert.Status(t, send(own), 208)
	other := typed("h", "x")
	other.stamp.Kind = "note"
	assert.Status(t, send(other), 404)
	assert.Status(t, get(other), 400)

	for range 2 {
		assert.Status(t, send(rawTask("s", "snoozed")), 500)
	}
	assert.Equal(t, strings.Count(b.log.String(), "cannot be copied for later; their attempts fail"), 1)
}

// Each call of next gets the whole body. Middleware gets it as the payload.
func TestRawMiddleware(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	var payload any
	b.Use(func(next handoff.Handler) handoff.Handler {
		return func(ctx context.Context) error {
			payload = handoff.PayloadFromContext(ctx)
			return errors.Join(next(ctx), next(ctx))
		}
	})
	var got []string
	raw := b.Raw("contact-changed", func(_ context.Context, req *http.Request) error {
		got = append(got, req.FormValue("id"))
		return nil
	})
	d := task{kind: "x", name: "a", body: "id=7", header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}}
	rec := httptest.NewRecorder()
	raw.ServeHTTP(rec, d.request())
	assert.Status(t, rec.Code, 200)
	assert.Equal(t, got, []string{"7", "7"})
	assert.Equal(t, payload, any([]byte("id=7")))
}

func TestRawMistakes(t *testing.T) {
	t.Parallel()
	fn := func(context.Context, *http.Request) error { return nil }
	for name, tc := range map[string]struct {
		kind  string
		fn    func(context.Context, *http.Request) error
		wants []string
	}{
		"nil":         {"a", nil, []string{"Raw at ", "router_raw_test.go", "the handler is nil"}},
		"a bad kind":  {"A B", fn, []string{`kind "A B" does not match`, "Raw at "}},
		"a taken one": {"note", fn, []string{`kind "note" has two handlers`, "Handle at ", "Raw at ", "router_raw_test.go"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newFixture(t, nil)
			handoff.Handle(b.Router, func(context.Context, note) error { return nil })
			defer func() { assert.ErrorContains(t, fmt.Errorf("%v", recover()), tc.wants...) }()
			b.Raw(tc.kind, tc.fn)
		})
	}
}

// Another team's CRM creates a task with the plain client for each changed contact.
// The body is XML.
func ExampleRouter_Raw() {
	router, err := handoff.NewRouter(handoff.RouterConfig{
		DangerouslyAllowUnauthenticated: true, // for this example only
		Store:                           memstore.New(),
		DeadLetters:                     memstore.NewDeadLetters(),
		ForeignMaxAttempts:              5,
		Logger:                          slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	defer router.Shutdown(context.Background())

	mux := http.NewServeMux()
	mux.Handle("POST /crm/contacts/{id}", router.Raw("contact-changed", func(ctx context.Context, req *http.Request) error {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return err
		}
		fmt.Printf("contact %s is now %s\n", req.PathValue("id"), body)
		return nil
	}))

	req := httptest.NewRequest(http.MethodPost, "/crm/contacts/7", bytes.NewBufferString("<name>Ada</name>"))
	req.Header.Set("Content-Type", "application/xml")
	req.Header.Set("X-CloudTasks-QueueName", "crm")
	req.Header.Set("X-CloudTasks-TaskName", "t1")
	rec := httptest.NewRecorder()
	mux.ServeHTTP(rec, req)
	fmt.Println(rec.Code)

	// Output:
	// contact 7 is now <name>Ada</name>
	// 200
}
