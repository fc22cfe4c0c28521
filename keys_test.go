package handoff_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/memstore"
)

// invoice has the old name bill. Its key is the same under both names.
type invoice struct {
	ID string `json:"id"`
}

func (invoice) Kind() string             { return "invoice" }
func (invoice) Aliases() []string        { return []string{"statement", "bill"} }
func (i invoice) IdempotencyKey() string { return i.ID }

// A client shows and frees the key that the oldest name of its kind gives in its
// project.
func TestKeys(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	client := server.client(t, nil)
	store := memstore.New()
	router, err := handoff.NewRouter(handoff.RouterConfig{Verifier: asCaller{}, Store: store, DeadLetters: memstore.NewDeadLetters()})
	assert.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, router.Shutdown(context.Background())) })
	ran := 0
	handoff.Handle(router, func(context.Context, invoice) error { ran++; return nil })
	_, err = client.Enqueue(t.Context(), invoice{ID: "7"})
	assert.NoError(t, err)
	task := server.only(t)
	state := func(client *handoff.Client, kind string) string {
		record, err := client.ShowKey(t.Context(), store, kind, "7")
		assert.NoError(t, err)
		return record.State
	}
	assert.Equal(t, state(client, "bill"), "absent")
	assert.Equal(t, deliverStored(router, task), http.StatusOK)
	assert.Equal(t, state(client, "bill"), "done")
	assert.Equal(t, state(client, "invoice"), "absent")
	another := server.client(t, func(c *handoff.ClientConfig) { c.Project = "another" })
	assert.Equal(t, state(another, "bill"), "absent")

	assert.Equal(t, deliverStored(router, task), http.StatusAlreadyReported)
	assert.NoError(t, client.FreeKey(t.Context(), store, "bill", "7"))
	assert.Equal(t, deliverStored(router, task), http.StatusOK)
	assert.Equal(t, ran, 2)

	_, err = client.ShowKey(t.Context(), store, "No Kind", "7")
	assert.ErrorContains(t, err, "No Kind")
	assert.ErrorContains(t, client.FreeKey(t.Context(), store, "bill", ""), "handoff", "bill", "empty")
}
