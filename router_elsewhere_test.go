package handoff_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/wire"
)

// charge creates the task of one order as a program without handoff does.
func (c *crm) charge(t *testing.T, kind, id string) {
	t.Helper()
	c.create(t, &cloudtaskspb.HttpRequest{
		HttpMethod: cloudtaskspb.HttpMethod_POST, Url: workerURL + "/tasks/" + kind, Body: fmt.Appendf(nil, `{"id":%q,"text":"x"}`, id),
	})
}

// Tasks with the same IdempotencyKey are one piece of work, even if different
// programs create them.
func TestOneOrderOfTwoProducers(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]string{"ours first": "ours", "theirs first": "theirs"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCRM(t, func(rc *handoff.RouterConfig) { rc.Project = "p" })
				createQueues(t, c.srv, "orders")
				c.mux.Handle("/tasks/", c.Router)
				charged := make(map[string]int)
				handoff.Handle(c.Router, func(_ context.Context, o order) error { charged[o.ID]++; return nil })
				client := newEmulatedClient(t, c.srv.ClientOptions())
				ours := func() {
					_, err := client.Enqueue(t.Context(), order{ID: "1001"})
					assert.NoError(t, err)
					assert.NoError(t, c.srv.Wait(t.Context()))
				}
				if first == "ours" {
					ours()
				}
				c.charge(t, "order", "1001")
				c.charge(t, "order", "1001")
				c.charge(t, "order", "1002")
				if first == "theirs" {
					ours()
				}
				assert.Equal(t, charged, map[string]int{"1001": 1, "1002": 1})
			})
		})
	}
}

// The letter of keyed work holds its key, even if another producer created the
// task. A redrive is the same work.
func TestDeadOrderOfAnotherProducer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCRM(t, func(rc *handoff.RouterConfig) { rc.Project = "p" })
		c.mux.Handle("/tasks/", c.Router)
		runs, fails := 0, true
		handoff.Handle(c.Router, func(context.Context, order) error {
			runs++
			if fails {
				return handoff.Permanent(errBoom)
			}
			return nil
		})
		c.charge(t, "order", "1001")
		c.charge(t, "order", "1001")
		assert.Equal(t, runs, 1)
		letter := c.onlyLetter(t)
		assert.Equal(t, letter.ID, letter.Key)
		assert.Equal(t, letter.MaxAttempts, 3)

		fails = false
		client := newEmulatedClient(t, c.srv.ClientOptions())
		record, err := client.ShowKey(t.Context(), c.store.Store.(handoff.KeyStore), "order", "1001")
		assert.NoError(t, err)
		assert.Equal(t, record.Letter, letter.ID)
		_, err = client.Redrive(t.Context(), c.letters, letter.ID)
		assert.NoError(t, err)
		assert.NoError(t, c.srv.Wait(t.Context()))
		c.charge(t, "order", "1001")
		assert.Equal(t, runs, 2)
	})
}

// The attempts that a type declares count for tasks that carry no limit. Its
// defaults do not, unless handoff created the task; ForeignMaxAttempts comes first.
func TestDeclaredAttempts(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		kind    string
		id      string // of EnqueueRequest
		foreign int
		want    int // attempts until the burial; 0: none within 8
	}{
		{"order", "", 0, 3}, {"order", "", 2, 2}, {"order", "", 5, 5}, {"order", "", handoff.Unlimited, 0},
		{"note", "", 0, 0}, {"note", "", 2, 2},
		{"order", "REQUEST", 0, 3}, {"order", "REQUEST", 2, 2},
		{"note", "REQUEST", 0, 5}, {"note", "REQUEST", 2, 2}, {"note", "REQUEST", handoff.Unlimited, 0},
	} {
		t.Run(fmt.Sprint(tc.kind, tc.id, tc.foreign), func(t *testing.T) {
			t.Parallel()
			b := newFixture(t, func(c *handoff.RouterConfig) { c.ForeignMaxAttempts = tc.foreign })
			runs := 0
			handoff.Handle(b.Router, func(context.Context, order) error { runs++; return errBoom })
			handoff.Handle(b.Router, func(context.Context, note) error { runs++; return errBoom })
			d := task{kind: tc.kind, name: "t", body: `{"id":"1"}`, stamp: wire.Stamp{ID: tc.id}}
			for range 8 {
				if b.send(t, d) == 205 {
					break
				}
			}
			if tc.want == 0 {
				assert.Equal(t, runs, 8)
				b.noLetters(t)
				return
			}
			assert.Equal(t, runs, tc.want)
			assert.Equal(t, b.onlyLetter(t).MaxAttempts, tc.want)
		})
	}
}

// For a task that Enqueue did not create, the TTL that its type declares begins
// with the first delivery. The ETA of a retry is the time of that retry, so it does
// not show the task's age.
func TestDeclaredTTL(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		kind   string
		stamp  wire.Stamp
		expire bool
	}{
		"declared":              {"order", wire.Stamp{}, true},
		"declared, of our own":  {"order", wire.Stamp{ID: "REQUEST", MaxAttempts: handoff.Unlimited}, true},
		"declared, and stamped": {"order", wire.Stamp{ID: "TYPED", Kind: "order", MaxAttempts: handoff.Unlimited}, false}, // the producer turned it off
		"a default":             {"note", wire.Stamp{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newFixture(t, func(c *handoff.RouterConfig) { c.ForeignMaxAttempts = handoff.Unlimited })
				begin := time.Now()
				check := func(ctx context.Context) error {
					var want time.Time
					if tc.expire {
						want = begin.Add(time.Hour)
					}
					if got := handoff.InfoFromContext(ctx).ExpiresAt; !got.Equal(want) {
						t.Errorf("ExpiresAt is %s, want %s", got, want)
					}
					return handoff.ErrBusy // an attempt that does not count does not restart the TTL
				}
				handoff.Handle(b.Router, func(ctx context.Context, _ order) error { return check(ctx) })
				handoff.Handle(b.Router, func(ctx context.Context, _ note) error { return check(ctx) })
				d := task{kind: tc.kind, name: "t", body: `{"id":"1"}`, stamp: tc.stamp}
				for range 6 {
					assert.Status(t, b.send(t, d), 409)
					time.Sleep(12 * time.Minute) // virtual
				}
				if !tc.expire {
					time.Sleep(48 * time.Hour)
					assert.Status(t, b.send(t, d), 409)
					b.noLetters(t)
					return
				}
				assert.Status(t, b.send(t, d), 205)
				assert.Equal(t, b.onlyLetter(t).Reasons, []handoff.Reason{handoff.ReasonExpired})
			})
		})
	}
}

// If the backoff of a queue exceeds the TTL, the retry buries the task. The queue
// is an emulated one.
func TestDeclaredTTLInAQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCRM(t, func(rc *handoff.RouterConfig) { rc.ForeignMaxAttempts = handoff.Unlimited })
		_, err := c.tasks.UpdateQueue(t.Context(), &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{
			Name:        "projects/p/locations/l/queues/crm",
			RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: -1, MinBackoff: durationpb.New(25 * time.Minute), MaxBackoff: durationpb.New(25 * time.Minute)},
		}})
		assert.NoError(t, err)
		c.mux.Handle("/tasks/", c.Router)
		runs := 0
		handoff.Handle(c.Router, func(context.Context, order) error { runs++; return errBoom })
		c.charge(t, "order", "1001")
		assert.Equal(t, runs, 3) // after 0, 25 and 50 minutes
		assert.Equal(t, c.onlyLetter(t).Reasons, []handoff.Reason{handoff.ReasonExpired})
	})
}

// keyless is a payload whose IdempotencyKey misbehaves as How says, or is empty.
type keyless struct {
	How string `json:"how"`
}

func (keyless) Kind() string { return "keyless" }
func (k keyless) IdempotencyKey() string {
	_ = misbehave(k.How)
	return ""
}

// A payload with an empty IdempotencyKey is invalid, as for Enqueue, unless the
// task carries a key of its producer.
func TestPayloadsWithoutAKey(t *testing.T) {
	t.Parallel()
	for how, tc := range map[string]struct {
		key    string
		status int
		reason handoff.Reason
		says   string
	}{
		"empty":        {"", 205, handoff.ReasonInvalid, "IdempotencyKey is empty"},
		"panic":        {"", 205, handoff.ReasonInvalid, "IdempotencyKey panicked: out of order"},
		"exit":         {"", 0, handoff.ReasonUndecodable, "runtime.Goexit"},
		"panic, keyed": {"THEIRS", 200, "", ""},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			b := newFixture(t, nil)
			handoff.Handle(b.Router, func(context.Context, keyless) error { return nil })
			d := task{kind: "keyless", name: "t", body: fmt.Sprintf(`{"how":%q}`, strings.TrimSuffix(how, ", keyed"))}
			if tc.key != "" {
				d.stamp = wire.Stamp{ID: "ID", Key: tc.key}
			}
			assert.Status(t, serveOrExit(b, d.request()), tc.status)
			if tc.reason == "" {
				b.noLetters(t)
				return
			}
			letter := b.onlyLetter(t)
			assert.Equal(t, letter.Reasons, []handoff.Reason{tc.reason})
			if !strings.Contains(letter.LastErr, tc.says) {
				t.Errorf("the letter says %q, want %q", letter.LastErr, tc.says)
			}
		})
	}
}

// serveOrExit returns the status of a delivery, or 0 if its goroutine ended.
func serveOrExit(h http.Handler, req *http.Request) (status int) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		status = rec.Code
	}()
	<-done
	return status
}
