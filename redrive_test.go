package handoff_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/wire"
	"github.com/brillconsulting/handoff/memstore"
)

// letterOf returns the letter of a job that was enqueued. change may modify its
// stamp.
func letterOf(change func(*wire.Stamp)) handoff.DeadLetter {
	stamp := wire.Stamp{
		ID: "OLDID", Kind: "job", Target: "https://worker.example.com/tasks", Headers: []string{"X-Tenant"},
		Enqueued: time.UnixMilli(1_000_000), Scheduled: time.UnixMilli(2_000_000), Expires: time.UnixMilli(5_600_000),
		MaxAttempts: 3, Generation: 2, Snoozes: 1, Backoff: wire.Backoff{Min: 10 * time.Minute, Max: time.Hour, Doublings: 1},
	}
	if change != nil {
		change(&stamp)
	}
	header := http.Header{"Content-Type": {"application/json"}, "X-Tenant": {"acme"}}
	stamp.Write(header.Set)
	return handoff.DeadLetter{ID: "OLDID.2", HandoffID: stamp.ID, Kind: "job", Queue: "jobs", Header: header, Payload: []byte(`{"n":1}`), Target: "https://internal.gateway/tasks/job"}
}

// boxOf returns a store with these letters.
func boxOf(t *testing.T, letters ...handoff.DeadLetter) *memstore.DeadLetters {
	t.Helper()
	box := memstore.NewDeadLetters()
	for _, l := range letters {
		l.BuriedAt = time.Now()
		assert.NoError(t, box.Put(t.Context(), l))
	}
	return box
}

// A redriven letter is the same work. Only its attempts, snoozes and age begin
// anew.
func TestRedrive(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	client := server.client(t, nil)
	letter := letterOf(func(s *wire.Stamp) { s.Key = "OLDKEY" })
	receipt, err := client.Redrive(t.Context(), boxOf(t, letter), letter.ID)
	assert.NoError(t, err)
	assert.Equal(t, receipt.Duplicate, false)
	assert.Equal(t, receipt.ID, "OLDID")

	task := server.only(t)
	r := task.GetHttpRequest()
	assert.Equal(t, r.GetUrl(), "https://worker.example.com/tasks/job")
	assert.Equal(t, string(r.GetBody()), `{"n":1}`)
	assert.Equal(t, r.GetHeaders()["X-Tenant"], "acme")
	assert.Equal(t, task.GetRetryConfig().GetMinBackoff().AsDuration(), 10*time.Minute)
	stamp := stampOf(t, task)
	assert.Equal(t, stamp.Lifetime(), time.Hour)
	stamp.Enqueued, stamp.Expires = time.Time{}, time.Time{}
	assert.Equal(t, stamp, wire.Stamp{
		ID: "OLDID", Kind: "job", Key: "OLDKEY", Target: "https://worker.example.com/tasks", Headers: []string{"X-Tenant"},
		MaxAttempts: 3, Backoff: wire.Backoff{Min: 10 * time.Minute, Max: time.Hour, Doublings: 1}, Redrives: 1,
	})
	if !strings.HasPrefix(task.Name, "projects/p/locations/l/queues/jobs/tasks/") {
		t.Errorf("task %s", task.Name)
	}

	// A second redrive, as when two operators do it at once, creates no second
	// task.
	second, err := client.Redrive(t.Context(), boxOf(t, letter), letter.ID)
	assert.NoError(t, err)
	assert.Equal(t, second.Duplicate, true)
	assert.Equal(t, second.Name, receipt.Name)
	assert.Equal(t, len(server.taken()), 1)

	// If the work dies again, its letter has the same ID, and a redrive creates
	// another task.
	letter = letterOf(func(s *wire.Stamp) { s.Redrives = 1 })
	_, err = client.Redrive(t.Context(), boxOf(t, letter), letter.ID)
	assert.NoError(t, err)
	assert.Equal(t, stampOf(t, server.taken()[1]).Redrives, 2)

	_, err = client.Redrive(t.Context(), boxOf(t), letter.ID)
	assert.ErrorIs(t, err, handoff.ErrNoDeadLetter)
}

// A task without a TTL has none after a redrive.
func TestRedriveWithoutTTL(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	letter := letterOf(func(s *wire.Stamp) { s.Expires = time.Time{} })
	_, err := server.client(t, nil).Redrive(t.Context(), boxOf(t, letter), letter.ID)
	assert.NoError(t, err)
	assert.Equal(t, stampOf(t, server.only(t)).Expires.IsZero(), true)
}

// A letter whose task no worker could read is not redriven, and stays.
func TestRedriveThatCannotBeRead(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	letter := letterOf(func(s *wire.Stamp) { s.Redrives = 1<<31 - 1 })
	_, err := server.client(t, nil).Redrive(t.Context(), boxOf(t, letter), letter.ID)
	assert.ErrorContains(t, err, "handoff: redrive letter OLDID.2", "Handoff-Redrives")
	assert.Equal(t, len(server.taken()), 0)
}

// A redrive goes to the target of the original task, and never to another one by
// accident.
func TestRedriveToAnotherTarget(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	client := server.client(t, func(c *handoff.ClientConfig) {
		c.Targets = map[string]handoff.Target{"order": handoff.HTTPTarget{URL: "https://orders.example.com/tasks", DangerouslySendUnsigned: true}}
	})
	letter := letterOf(func(s *wire.Stamp) { s.Target = "https://user:secret@mail.example.com/tasks?token=secret" })
	box := boxOf(t, letter)
	_, err := client.Redrive(t.Context(), box, letter.ID)
	assert.ErrorContains(t, err, "handoff: redrive letter OLDID.2", "https://mail.example.com/tasks", "https://worker.example.com/tasks", "Retarget")
	assert.Equal(t, strings.Contains(err.Error(), "secret"), false)
	assert.Equal(t, len(server.taken()), 0)
	_, err = box.Get(t.Context(), letter.ID)
	assert.NoError(t, err)

	_, err = client.Redrive(t.Context(), box, letter.ID, handoff.Retarget())
	assert.NoError(t, err)
	assert.Equal(t, server.only(t).GetHttpRequest().GetUrl(), "https://worker.example.com/tasks/job")
	assert.Equal(t, stampOf(t, server.only(t)).Target, "https://worker.example.com/tasks")

	// The target of the letter's kind is used.
	letter = letterOf(func(s *wire.Stamp) { s.ID, s.Kind, s.Target = "OTHER", "order", "https://orders.example.com/tasks" })
	letter.ID = "OTHER.0"
	_, err = client.Redrive(t.Context(), boxOf(t, letter), letter.ID)
	assert.NoError(t, err)
	assert.Equal(t, server.taken()[1].GetHttpRequest().GetUrl(), "https://orders.example.com/tasks/order")
}

// A task that handoff did not create is redriven to the URL where it was delivered,
// with its request unchanged. It then has an ID.
func TestRedriveForeign(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	client := server.client(t, nil)
	letter := handoff.DeadLetter{
		ID: "THEIRS", Kind: "contact-changed", Queue: "crm", Method: http.MethodPut, Target: "https://worker.example.com/hooks/contact?id=7",
		Header: http.Header{"Content-Type": {"application/xml"}, "X-Crm": {"1", "2"}}, Payload: []byte("<contact/>"), Key: "THEIRKEY",
		ServiceAccount: "crm@p.iam.gserviceaccount.com", Audience: "https://worker.example.com",
	}
	receipt, err := client.Redrive(t.Context(), boxOf(t, letter), letter.ID)
	assert.NoError(t, err)
	task := server.only(t)
	r := task.GetHttpRequest()
	assert.Equal(t, r.GetUrl(), letter.Target)
	assert.Equal(t, r.GetHttpMethod(), cloudtaskspb.HttpMethod_PUT)
	assert.Equal(t, string(r.GetBody()), "<contact/>")
	assert.Equal(t, r.GetHeaders()["Content-Type"], "application/xml")
	assert.Equal(t, r.GetHeaders()["X-Crm"], "1, 2")
	assert.Equal(t, r.GetOidcToken().GetServiceAccountEmail(), "crm@p.iam.gserviceaccount.com")
	assert.Equal(t, r.GetOidcToken().GetAudience(), "https://worker.example.com")
	assert.Equal(t, task.GetRetryConfig() == nil, true)
	stamp := stampOf(t, task)
	assert.Equal(t, len(stamp.ID), 22)
	assert.Equal(t, stamp.ID, receipt.ID)
	assert.Equal(t, []any{stamp.Key, stamp.Redrives, stamp.Kind, stamp.Target}, []any{"THEIRKEY", 1, "", ""})
	assert.Equal(t, stamp.Headers, []string{"Content-Type", "X-Crm"})

	// If it dies again, a redrive of its letter is the same work.
	header := http.Header{}
	for name, value := range r.GetHeaders() {
		header.Set(name, value)
	}
	letter.ID, letter.Header = "ITSLETTER", header
	second, err := client.Redrive(t.Context(), boxOf(t, letter), letter.ID)
	assert.NoError(t, err)
	assert.Equal(t, second.ID, receipt.ID)
	assert.Equal(t, stampOf(t, server.taken()[1]).Redrives, 2)
}

// A task of EnqueueRequest keeps its Retry.
func TestRedriveRequest(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	client := server.client(t, nil)
	_, err := client.EnqueueRequest(t.Context(), handoff.Request{
		URL: "https://hooks.example.com/in", Retry: handoff.Retry{MaxAttempts: 7, MinBackoff: time.Minute, MaxDoublings: handoff.NoDoublings}, Body: []byte("x"),
	})
	assert.NoError(t, err)
	original := server.only(t)
	header := http.Header{}
	for name, value := range original.GetHttpRequest().GetHeaders() {
		header.Set(name, value)
	}
	letter := handoff.DeadLetter{ID: "L", Queue: "q", Method: http.MethodPost, Target: "https://hooks.example.com/in", Header: header, Payload: []byte("x")}
	enqueued := time.Now().UnixMilli()
	assert.Eventually(t, time.Second, func() bool { return time.Now().UnixMilli() > enqueued }, "a later stamp")
	_, err = client.Redrive(t.Context(), boxOf(t, letter), letter.ID)
	assert.NoError(t, err)
	sameTask(t, original, server.taken()[1], "name", "Enqueued", "Redrives")
}

// A redrive checks the names and values of headers: somebody who can write to the
// dead-letter store must not be able to put line breaks into tasks.
func TestRedriveChecksHeaders(t *testing.T) {
	t.Parallel()
	for _, h := range []http.Header{
		{"X-A": {"b\r\nX-Evil: c"}}, {"X-A\r\nX-Evil": {"c"}}, {"X A": {"b"}}, {"": {"b"}}, {"X-A": {"\xff"}}, {"X-A": {"b\x00"}},
	} {
		server := new(taskServer)
		letter := handoff.DeadLetter{ID: "L", Kind: "job", Queue: "q", Header: h, Target: "https://worker.example.com/tasks/job"}
		_, err := server.client(t, nil).Redrive(t.Context(), boxOf(t, letter), letter.ID)
		assert.ErrorContains(t, err, "header")
		assert.Equal(t, len(server.taken()), 0)
	}
}

func TestRedriveOptions(t *testing.T) {
	t.Parallel()
	client := new(taskServer).client(t, nil)
	letter := letterOf(nil)
	for _, opt := range []handoff.Option{
		handoff.In(time.Hour), handoff.At(time.Now().Add(time.Hour)), handoff.Key("k"), handoff.Name("n"), handoff.OnQueue("q"),
		handoff.TTL(time.Hour), handoff.Deadline(time.Minute), handoff.Every(time.Hour),
	} {
		_, err := client.Redrive(t.Context(), boxOf(t, letter), letter.ID, opt)
		assert.ErrorContains(t, err, "handoff: Redrive takes the options Header and Retarget only")
	}
	_, err := client.Redrive(t.Context(), boxOf(t, letter), letter.ID, handoff.Header("X-Tenant", "other"), handoff.Header("X-More", "1"))
	assert.NoError(t, err)
}

// A letter that cannot be redriven stays in the store, unmarked.
func TestRedriveFails(t *testing.T) {
	t.Parallel()
	server := &taskServer{script: func(context.Context, int, *cloudtaskspb.CreateTaskRequest, func() (*cloudtaskspb.Task, error)) (*cloudtaskspb.Task, error) {
		return nil, status.Error(codes.NotFound, "no queue")
	}}
	client := server.client(t, nil)
	letter := letterOf(nil)
	box := boxOf(t, letter)
	_, err := client.Redrive(t.Context(), box, letter.ID)
	assert.Equal(t, status.Code(err), codes.NotFound)
	for name, tc := range map[string]struct {
		change func(*handoff.DeadLetter)
		says   string
	}{
		"an invalid kind":        {func(l *handoff.DeadLetter) { l.Header["Handoff-Kind"] = []string{"Not A Kind"} }, "Not A Kind"},
		"no stamp version":       {func(l *handoff.DeadLetter) { delete(l.Header, "Handoff-Version") }, "Handoff-Version"},
		"redriven too often":     {func(l *handoff.DeadLetter) { l.Header["Handoff-Redrives"] = []string{"2147483647"} }, "Handoff-Redrives is not a count"},
		"a foreign one, nowhere": {func(l *handoff.DeadLetter) { l.Header, l.Target = nil, "" }, "Request.URL"},
	} {
		t.Run(name, func(t *testing.T) {
			letter := letterOf(nil)
			tc.change(&letter)
			_, err := client.Redrive(t.Context(), boxOf(t, letter), letter.ID)
			assert.ErrorContains(t, err, "handoff: redrive letter OLDID.2", tc.says)
		})
	}
	kept, err := box.Get(t.Context(), letter.ID)
	assert.NoError(t, err)
	if !kept.RedrivenAt.IsZero() {
		t.Error("the letter is marked as redriven, but no task exists")
	}
}

// A redriven task runs again, with all its attempts.
func TestRedriveRunsAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := new(taskServer)
		client := server.client(t, nil)
		letters := memstore.NewDeadLetters()
		router := newCopying(t, client, letters, handoff.Caller{})
		var infos []handoff.Info
		broken := true
		handoff.Handle(router, func(ctx context.Context, o order) error {
			assert.Equal(t, o, order{ID: "7"})
			infos = append(infos, handoff.InfoFromContext(ctx))
			if broken {
				return handoff.Permanent(errors.New("no"))
			}
			return nil
		})
		_, err := client.Enqueue(t.Context(), order{ID: "7"})
		assert.NoError(t, err)
		assert.Equal(t, deliverStored(router, server.only(t)), http.StatusResetContent)
		page, err := letters.List(t.Context(), handoff.DeadLetterQuery{})
		assert.NoError(t, err)
		assert.Equal(t, len(page.Letters), 1)

		broken = false
		_, err = client.Redrive(t.Context(), letters, page.Letters[0].ID)
		assert.NoError(t, err)
		assert.Equal(t, deliverStored(router, server.taken()[1]), http.StatusOK)
		assert.Equal(t, []int{infos[1].Attempt, infos[1].MaxAttempts}, []int{1, 3})
		assert.Equal(t, infos[1].ID, infos[0].ID)
		assert.Equal(t, deliverStored(router, server.taken()[1]), http.StatusAlreadyReported)
		assert.Equal(t, len(infos), 2)
	})
}
