package handoff_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
)

// stored returns the draft after a round trip through a database.
func stored(t *testing.T, d handoff.Draft) handoff.Draft {
	t.Helper()
	data, err := d.MarshalBinary()
	assert.NoError(t, err)
	var back handoff.Draft
	assert.NoError(t, back.UnmarshalBinary(data))
	return back
}

// drafter returns a client that makes drafts, for which it needs no credentials.
func drafter(t *testing.T) *handoff.Client {
	t.Helper()
	c, err := handoff.NewClient(t.Context(), handoff.ClientConfig{
		Project: "p", Location: "l", Target: handoff.HTTPTarget{URL: "https://worker.example.com/tasks", DangerouslySendUnsigned: true}, DraftOnly: true,
	})
	assert.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	return c
}

// TestDraftSentTwice: a draft that is sent twice is the same work.
func TestDraftSentTwice(t *testing.T) {
	t.Parallel()
	srv, seen := newEmulated(t)
	client, err := handoff.NewClient(t.Context(), handoff.ClientConfig{
		Project: "p", Location: "l", Target: handoff.HTTPTarget{URL: "https://worker.example.com/tasks", DangerouslySendUnsigned: true}, Options: srv.ClientOptions(),
	})
	assert.NoError(t, err)
	defer client.Close()
	maker := drafter(t)
	typed, err := maker.Draft(t.Context(), job{N: 1}, handoff.OnQueue("jobs"))
	assert.NoError(t, err)
	keyed, err := maker.Draft(t.Context(), order{ID: "a"})
	assert.NoError(t, err)
	assert.Equal(t, typed.Kind(), "job")
	drafts := []handoff.Draft{stored(t, typed), stored(t, keyed)}
	for try := range 2 {
		n := 0
		for receipt, err := range client.Send(t.Context(), slices.Values(drafts)) {
			assert.NoError(t, err)
			if receipt.Queue != drafts[n].Receipt().Queue || receipt.Duplicate != (try == 1 && n == 1) {
				t.Errorf("try %d: %+v", try, receipt)
			}
			n++
		}
		assert.Equal(t, n, 2)
	}
	assert.NoError(t, srv.Wait(t.Context()))
	seen.mu.Lock()
	defer seen.mu.Unlock()
	assert.Equal(t, seen.n["job 1"], 1)
	assert.Equal(t, seen.n["order a"], 1)
}

func TestDraftRefused(t *testing.T) {
	t.Parallel()
	maker := drafter(t)
	_, err := maker.Enqueue(t.Context(), job{N: 1}, handoff.OnQueue("jobs"))
	refuses(t, err, "DraftOnly")
	_, err = maker.DraftRequest(t.Context(), handoff.Request{URL: "https://example.com", Unnamed: true}, handoff.OnQueue("q"))
	refuses(t, err, "Unnamed")
	_, err = handoff.Draft{}.MarshalBinary()
	refuses(t, err, "empty")
	for _, data := range []string{"", "\x00", "\x01\xff", "\x02", "\x01"} {
		refuses(t, new(handoff.Draft).UnmarshalBinary([]byte(data)), "Draft")
	}
	for _, err := range maker.Send(t.Context(), slices.Values([]handoff.Draft{{}})) {
		refuses(t, err, "DraftOnly")
	}
}

// TestDraftsOfOthers: a client refuses drafts of another project, drafts due in
// more than 30 days, and empty ones.
func TestDraftsOfOthers(t *testing.T) {
	t.Parallel()
	client := new(taskServer).client(t, func(c *handoff.ClientConfig) { c.Project = "other" })
	near, err := drafter(t).Draft(t.Context(), job{N: 1}, handoff.OnQueue("jobs"))
	assert.NoError(t, err)
	far, err := client.Draft(t.Context(), job{N: 2}, handoff.OnQueue("jobs"), handoff.In(31*24*time.Hour))
	assert.NoError(t, err)
	wants := []string{"this client is for", "30 days", "empty"}
	for _, err := range client.Send(t.Context(), slices.Values([]handoff.Draft{near, stored(t, far), {}})) {
		refuses(t, err, wants[0])
		wants = wants[1:]
	}
	assert.Equal(t, len(wants), 0)
}

// TestLetterOfADraft: the letter of a draft that expired in storage keeps the whole
// task.
func TestLetterOfADraft(t *testing.T) {
	t.Parallel()
	d, err := drafter(t).Draft(t.Context(), blob{Text: strings.Repeat("long ", 10_000)}, handoff.OnQueue("q"), handoff.Header("X-Own", "1"), handoff.TTL(time.Hour))
	assert.NoError(t, err)
	letter, err := stored(t, d).Letter(handoff.ReasonExpired)
	assert.NoError(t, err)
	if letter.ID == "" || letter.HandoffID != d.Receipt().ID || letter.Queue != "q" || letter.Kind != "blob" || letter.Method != http.MethodPost ||
		letter.Target != "https://worker.example.com/tasks/blob" || !strings.Contains(string(letter.Payload), "long long") || letter.Header["X-Own"][0] != "1" {
		t.Errorf("%+v", letter)
	}
	if left := time.Until(d.Expires()); left < 50*time.Minute || left > time.Hour {
		t.Errorf("expires in %v", left)
	}
}

func refuses(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}
