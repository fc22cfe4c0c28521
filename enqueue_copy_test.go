package handoff_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/wire"
	"github.com/brillconsulting/handoff/memstore"
)

// asCaller is a Verifier that returns the same caller for every request.
type asCaller handoff.Caller

func (c asCaller) Verify(*http.Request) (handoff.Caller, error) { return handoff.Caller(c), nil }

// deliverStored dispatches a task that a server holds, through a gateway that adds
// its own headers.
func deliverStored(router http.Handler, task *cloudtaskspb.Task) int {
	r := task.GetHttpRequest()
	parts := strings.Split(task.Name, "/")
	req := httptest.NewRequest(http.MethodPost, r.GetUrl(), strings.NewReader(string(r.GetBody())))
	req.Host = "internal.gateway" // which no copy may go to
	for name, value := range r.GetHeaders() {
		req.Header.Set(name, value)
	}
	req.Header.Set("X-CloudTasks-QueueName", parts[5])
	req.Header.Set("X-CloudTasks-TaskName", parts[7])
	req.Header.Set("X-CloudTasks-TaskRetryCount", "3")
	req.Header.Set("User-Agent", "Google-Cloud-Tasks")
	req.Header.Set("X-Forwarded-For", "10.0.0.1")
	req.Header.Set("X-Goog-Iap-Jwt-Assertion", "secret")
	req.Header.Set("X-Gateway", "added")
	rec := httptest.NewRecorder()
	router.ServeHTTP(rec, req)
	return rec.Code
}

// newCopying returns a router that creates copies with client.
func newCopying(t *testing.T, client *handoff.Client, letters handoff.DeadLetterStore, caller handoff.Caller, change ...func(*handoff.RouterConfig)) *handoff.Router {
	t.Helper()
	config := handoff.RouterConfig{Verifier: asCaller(caller), Store: memstore.New(), DeadLetters: letters, Client: client}
	for _, c := range change {
		c(&config)
	}
	router, err := handoff.NewRouter(config)
	assert.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, router.Shutdown(context.Background())) })
	return router
}

// ledger is a payload whose tasks set every field of the stamp.
type ledger struct {
	ID string `json:"id"`
}

func (ledger) Kind() string             { return "ledger.new" }
func (ledger) Aliases() []string        { return []string{"ledger"} }
func (l ledger) IdempotencyKey() string { return l.ID }
func (ledger) Policy() handoff.Policy {
	return handoff.Policy{
		Queue: "ledgers", TTL: time.Hour, Deadline: time.Minute,
		Retry: handoff.Retry{MaxAttempts: 3, MinBackoff: 1500 * time.Microsecond, MaxBackoff: 20 * time.Minute, MaxDoublings: 4},
	}
}

// stampOf reads the stamp of a stored task.
func stampOf(t *testing.T, task *cloudtaskspb.Task) wire.Stamp {
	t.Helper()
	h := http.Header{}
	for name, value := range task.GetHttpRequest().GetHeaders() {
		h.Set(name, value)
	}
	stamp, err := wire.ReadStamp(h)
	assert.NoError(t, err)
	return stamp
}

// sameTask fails the test for every field of the two tasks or their stamps that
// differs and is not in changed. It uses reflection, so new fields are compared
// too.
func sameTask(t *testing.T, original, twin *cloudtaskspb.Task, changed ...string) {
	t.Helper()
	a, b := reflect.ValueOf(stampOf(t, original)), reflect.ValueOf(stampOf(t, twin))
	for i := range a.NumField() {
		name := a.Type().Field(i).Name
		if same := reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()); same == slices.Contains(changed, name) {
			t.Errorf("stamp: %s was %v and is %v", name, a.Field(i), b.Field(i))
		}
	}
	sameMessage(t, original.ProtoReflect(), twin.ProtoReflect(), changed)
}

func sameMessage(t *testing.T, a, b protoreflect.Message, changed []string) {
	t.Helper()
	fields := a.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		name := string(field.Name())
		if field.Kind() == protoreflect.MessageKind && !field.IsMap() && !field.IsList() && a.Has(field) && b.Has(field) && !slices.Contains(changed, name) {
			sameMessage(t, a.Get(field).Message(), b.Get(field).Message(), changed)
			continue
		}
		x, y := a.Get(field), b.Get(field)
		if name == "headers" {
			x, y = unstamped(x.Map()), unstamped(y.Map())
		}
		if same := x.Equal(y); same == slices.Contains(changed, name) {
			t.Errorf("%s was %v and is %v", field.FullName(), x, y)
		}
	}
}

// unstamped returns the headers without the stamp, which is compared separately.
func unstamped(headers protoreflect.Map) protoreflect.Value {
	own := &cloudtaskspb.HttpRequest{Headers: make(map[string]string)}
	headers.Range(func(name protoreflect.MapKey, value protoreflect.Value) bool {
		if !strings.HasPrefix(name.String(), "Handoff-") {
			own.Headers[name.String()] = value.String()
		}
		return true
	})
	return own.ProtoReflect().Get(own.ProtoReflect().Descriptor().Fields().ByName("headers"))
}

// A copy has everything of the original: the producer's settings, the target and
// the token. Only the fields that make it a copy differ.
func TestCopiesCarryEverything(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		target handoff.HTTPTarget
		caller handoff.Caller
		header string // one of the producer's own headers
	}{
		"signed": {
			target: handoff.HTTPTarget{URL: "https://ledgers.example.com/tasks/", ServiceAccount: "other@p.iam.gserviceaccount.com", Audience: "https://ledgers.example.com/all"},
			caller: handoff.Caller{Email: "other@p.iam.gserviceaccount.com", Audience: "https://ledgers.example.com/all"},
			header: "X-Tenant",
		},
		"with an Authorization of the producer's": {
			target: handoff.HTTPTarget{URL: "https://ledgers.example.com/tasks", DangerouslySendUnsigned: true},
			header: "Authorization",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := new(taskServer)
				producer := server.client(t, func(c *handoff.ClientConfig) { c.Target, c.CompressOver = tc.target, 100 })
				elsewhere, err := handoff.NewClient(t.Context(), handoff.ClientConfig{
					Project: "p", Location: "l", Options: server.options, CompressOver: 100,
					Target: handoff.HTTPTarget{URL: "https://mail.example.com/jobs", ServiceAccount: "mail@p.iam.gserviceaccount.com"},
					Policy: handoff.Policy{Queue: "mails", Retry: handoff.Retry{MinBackoff: time.Minute}},
				})
				assert.NoError(t, err)
				defer elsewhere.Close()
				letters := memstore.NewDeadLetters()
				snoozing := newCopying(t, elsewhere, letters, tc.caller)
				handoff.Handle(snoozing, func(_ context.Context, l ledger) error { return handoff.Snooze(6 * time.Hour) })
				dying := newCopying(t, elsewhere, letters, tc.caller)
				handoff.Handle(dying, func(_ context.Context, l ledger) error { return handoff.Permanent(errors.New("no")) })

				_, err = producer.Enqueue(t.Context(), ledger{ID: strings.Repeat("1", 1000)}, handoff.In(10*time.Hour), handoff.Every(48*time.Hour),
					handoff.Header(tc.header, "Basic c2VjcmV0"), handoff.Header("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
				assert.NoError(t, err)
				original := server.only(t)
				stamp := reflect.ValueOf(stampOf(t, original))
				for i := range stamp.NumField() {
					if name := stamp.Type().Field(i).Name; stamp.Field(i).IsZero() && !slices.Contains([]string{"Redrives", "Generation", "Snoozes", "Attempts"}, name) {
						t.Errorf("the original has no %s, so nothing here shows that a copy keeps it", name)
					}
				}
				time.Sleep(10*time.Hour + time.Minute)
				assert.Equal(t, deliverStored(snoozing, original), http.StatusAccepted)
				snoozed := server.taken()[1]
				sameTask(t, original, snoozed, "name", "schedule_time", "Generation", "Snoozes", "Scheduled", "Expires")
				due := time.Now().Add(6 * time.Hour)
				assert.Equal(t, snoozed.GetScheduleTime().AsTime().Equal(due), true)
				assert.Equal(t, stampOf(t, snoozed).Expires.Equal(due.Add(time.Hour)), true)
				assert.Equal(t, []int{stampOf(t, snoozed).Generation, stampOf(t, snoozed).Snoozes}, []int{1, 1})

				time.Sleep(6 * time.Hour)
				assert.Equal(t, deliverStored(dying, snoozed), http.StatusResetContent)
				page, err := letters.List(t.Context(), handoff.DeadLetterQuery{})
				assert.NoError(t, err)
				if text := fmt.Sprint(page.Letters[0].Header); strings.Contains(text, "X-Gateway") || strings.Contains(text, "secret") {
					t.Errorf("the letter's header is %s", text)
				}
				time.Sleep(time.Hour)
				var options []handoff.Option
				if tc.header == "Authorization" {
					_, err = producer.Redrive(t.Context(), letters, page.Letters[0].ID)
					assert.ErrorContains(t, err, "Authorization", "option Header")
					options = append(options, handoff.Header("Authorization", "Basic c2VjcmV0"))
				}
				_, err = producer.Redrive(t.Context(), letters, page.Letters[0].ID, options...)
				assert.NoError(t, err)
				redriven := server.taken()[2]
				sameTask(t, snoozed, redriven, "name", "schedule_time", "Redrives", "Generation", "Snoozes", "Enqueued", "Scheduled", "Expires")
				assert.Equal(t, stampOf(t, redriven).Lifetime(), time.Hour)

				// A copy of a copy differs from the first only by its name.
				fresh := newCopying(t, elsewhere, letters, tc.caller)
				handoff.Handle(fresh, func(_ context.Context, l ledger) error { return handoff.Snooze(time.Hour) })
				assert.Equal(t, deliverStored(fresh, redriven), http.StatusAccepted)
				sameTask(t, redriven, server.taken()[3], "name", "schedule_time", "Generation", "Snoozes", "Scheduled", "Expires")
				assert.Equal(t, server.taken()[3].Name != snoozed.Name, true)
			})
		})
	}
}

// A token for the verified audience is sent only to that audience's origin or to a
// target of the client, because the target in the stamp is chosen by the sender of
// the request.
func TestTokensGoWhereTheyMay(t *testing.T) {
	t.Parallel()
	const account = "mail@p.iam.gserviceaccount.com"
	for name, tc := range map[string]struct {
		target, audience string
		trusted          bool
	}{
		"the audience's origin":              {"https://a.example.com/tasks", "https://a.example.com", true},
		"an audience with a path":            {"https://a.example.com/tasks", "https://a.example.com/tasks/note", true},
		"the client's target":                {"https://own.example.com/tasks", "notes", true},
		"one of the client's targets":        {"https://other.example.com/jobs", "notes", true},
		"another host":                       {"https://attacker.example/tasks", "https://a.example.com", false},
		"another host, for no URL":           {"https://attacker.example/tasks", "notes", false},
		"another host, for no audience":      {"https://attacker.example/tasks", "", false},
		"another scheme":                     {"http://a.example.com/tasks", "https://a.example.com", false},
		"another port":                       {"https://a.example.com:444/tasks", "https://a.example.com", false},
		"the audience as a user":             {"https://a.example.com@attacker.example/tasks", "https://a.example.com", false},
		"the audience as a label":            {"https://a.example.com.attacker.example/tasks", "https://a.example.com", false},
		"a host that the client's begins":    {"https://own.example.com.attacker.example/tasks", "notes", false},
		"a path that the client's begins":    {"https://own.example.com/tasksandmore", "notes", false},
		"no URL, for an audience that is no": {"notes", "notes", false},
		"App Engine":                         {"appengine:/tasks", "https://a.example.com", false},
		"App Engine, for no audience":        {"appengine:/tasks?service=admin", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := new(taskServer)
			client := server.client(t, func(c *handoff.ClientConfig) {
				c.Target = handoff.HTTPTarget{URL: "https://own.example.com/tasks", ServiceAccount: account}
				c.Targets = map[string]handoff.Target{"other": handoff.HTTPTarget{URL: "https://other.example.com/jobs", ServiceAccount: account}}
			})
			_, err := client.Enqueue(t.Context(), job{})
			assert.NoError(t, err)
			forged := server.only(t)
			forged.GetHttpRequest().Headers["Handoff-Target"] = tc.target
			router := newCopying(t, client, memstore.NewDeadLetters(), handoff.Caller{Email: account, Audience: tc.audience})
			handoff.Handle(router, func(context.Context, job) error { return handoff.Snooze(time.Hour) })
			if !tc.trusted {
				assert.Equal(t, deliverStored(router, forged) >= 300, true)
				assert.Equal(t, len(server.taken()), 1)
			} else {
				assert.Equal(t, deliverStored(router, forged), http.StatusAccepted)
				assert.Equal(t, server.taken()[1].GetHttpRequest().GetUrl(), tc.target+"/job")
				assert.Equal(t, server.taken()[1].GetHttpRequest().GetOidcToken().GetAudience(), tc.audience)
			}

			before := len(server.taken())
			letter := handoff.DeadLetter{
				ID: "raw", Queue: "q", Target: tc.target + "/note", Method: http.MethodPost, Payload: []byte("x"),
				ServiceAccount: account, Audience: tc.audience, BuriedAt: time.Now(),
			}
			_, err = client.Redrive(t.Context(), boxOf(t, letter), "raw")
			assert.Equal(t, err == nil, tc.trusted)
			assert.Equal(t, len(server.taken()) > before, tc.trusted)
		})
	}
}

// The copy of a task without a verified caller, enqueued for the target of the
// router's client, is signed as that client signs.
func TestCopyForTheClientsOwnTarget(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	client := server.client(t, nil)
	router := newCopying(t, client, memstore.NewDeadLetters(), handoff.Caller{})
	handoff.Handle(router, func(context.Context, job) error { return handoff.Snooze(time.Hour) })
	_, err := client.Enqueue(t.Context(), job{})
	assert.NoError(t, err)
	assert.Equal(t, deliverStored(router, server.only(t)), http.StatusAccepted)
	sameTask(t, server.taken()[0], server.taken()[1], "name", "schedule_time", "Generation", "Snoozes", "Scheduled", "Expires")
}

// A copy of an App Engine task goes to the same service and version.
func TestCopyToAppEngine(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	producer := server.client(t, func(c *handoff.ClientConfig) {
		c.Target = handoff.AppEngineTarget{Service: "worker", Version: "v2", Instance: "3", Path: "/tasks/"}
	})
	copier, err := handoff.NewClient(t.Context(), handoff.ClientConfig{Project: "p", Location: "l", Options: server.options, Target: handoff.AppEngineTarget{Service: "other"}})
	assert.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, copier.Close()) })
	router := newCopying(t, copier, memstore.NewDeadLetters(), handoff.Caller{})
	handoff.Handle(router, func(context.Context, job) error { return handoff.Snooze(time.Hour) })
	_, err = producer.Enqueue(t.Context(), job{})
	assert.NoError(t, err)
	original := server.only(t)
	asHTTP := proto.CloneOf(original)
	asHTTP.MessageType = &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
		Url: "https://worker-dot-p.appspot.com/tasks/job", Headers: original.GetAppEngineHttpRequest().Headers, Body: original.GetAppEngineHttpRequest().Body,
	}}
	asHTTP.Name = "projects/p/locations/l/queues/q/tasks/1"
	assert.Equal(t, deliverStored(router, asHTTP), http.StatusAccepted)
	twin := server.taken()[1].GetAppEngineHttpRequest()
	assert.Equal(t, twin.GetRelativeUri(), "/tasks/job")
	assert.Equal(t, proto.Equal(twin.GetAppEngineRouting(), original.GetAppEngineHttpRequest().GetAppEngineRouting()), true)
}

// The worker dies after it has created the copy and before it has recorded that.
// The next delivery finds the copy, and succeeds.
func TestCopyTwiceIsOneTask(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := new(taskServer)
		client := server.client(t, nil)
		snooze := func() int {
			router := newCopying(t, client, memstore.NewDeadLetters(), handoff.Caller{}) // with a new Store, as if Complete had never arrived
			handoff.Handle(router, func(context.Context, job) error { return handoff.Snooze(time.Hour) })
			return deliverStored(router, server.taken()[0])
		}
		_, err := client.Enqueue(t.Context(), job{})
		assert.NoError(t, err)
		assert.Equal(t, snooze(), http.StatusAccepted)
		assert.Equal(t, snooze(), http.StatusAccepted)
		assert.Equal(t, len(server.taken()), 2)
	})
}

// A worker can read every copy that is made, whatever a producer of another language
// wrote into the stamp. A copy that none could read is not made, and the work is kept.
func TestCopiesCanBeRead(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		header, value string        // of the stamp; no value: the header is absent
		expires       time.Duration // of the copy, after it is due; 0: there is no copy; -1: the latest time
	}{
		"no time of the enqueue": {"Handoff-Enqueued", "", 2 * time.Hour},
		"the latest time":        {"Handoff-Expires", "9000000000000", -1},
		"the last generation":    {"Handoff-Generation", "2147483647", 0},
		"the last snooze":        {"Handoff-Snoozes", "2147483647", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := new(taskServer)
			client := server.client(t, func(c *handoff.ClientConfig) { c.Policy.TTL = 2 * time.Hour })
			_, err := client.Enqueue(t.Context(), job{})
			assert.NoError(t, err)
			original := server.only(t)
			header := original.GetHttpRequest().Headers
			if header[tc.header] = tc.value; tc.value == "" {
				delete(header, tc.header)
			}
			router := newCopying(t, client, memstore.NewDeadLetters(), handoff.Caller{})
			handoff.Handle(router, func(context.Context, job) error { return handoff.Snooze(time.Hour) })
			status := deliverStored(router, original)
			if tc.expires == 0 {
				assert.Equal(t, []int{status, len(server.taken())}, []int{http.StatusInternalServerError, 1})
				return
			}
			assert.Equal(t, status, http.StatusAccepted)
			stamp := stampOf(t, server.taken()[1]) // a worker reads it so
			if tc.expires < 0 {
				assert.Equal(t, stamp.Expires, wire.Latest())
				return
			}
			assert.Equal(t, stamp.Expires.Sub(stamp.Scheduled), tc.expires)
		})
	}
}

// If a copy can never be created, the attempt fails and counts. If the failure is
// temporary, the task is left as it is, to be retried.
func TestCopyThatCannotBeCreated(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		code   codes.Code
		snooze time.Duration
		want   int
	}{
		"no queue":          {codes.NotFound, time.Hour, http.StatusInternalServerError},
		"not allowed":       {codes.PermissionDenied, time.Hour, http.StatusInternalServerError},
		"invalid":           {codes.InvalidArgument, time.Hour, http.StatusInternalServerError},
		"beyond 30 days":    {codes.OK, 721 * time.Hour, http.StatusInternalServerError},
		"quota":             {codes.ResourceExhausted, time.Hour, http.StatusServiceUnavailable},
		"service is away":   {codes.Unavailable, time.Hour, http.StatusServiceUnavailable},
		"internal error":    {codes.Internal, time.Hour, http.StatusServiceUnavailable},
		"no longer allowed": {codes.Unauthenticated, time.Hour, http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := new(taskServer)
				client := server.client(t, nil)
				_, err := client.Enqueue(t.Context(), job{})
				assert.NoError(t, err)
				server.script = func(context.Context, int, *cloudtaskspb.CreateTaskRequest, func() (*cloudtaskspb.Task, error)) (*cloudtaskspb.Task, error) {
					return nil, status.Error(tc.code, "no")
				}
				router := newCopying(t, client, memstore.NewDeadLetters(), handoff.Caller{})
				handoff.Handle(router, func(context.Context, job) error { return handoff.Snooze(tc.snooze) })
				assert.Equal(t, deliverStored(router, server.only(t)), tc.want)
				assert.Equal(t, len(server.taken()), 1)
			})
		})
	}
}
