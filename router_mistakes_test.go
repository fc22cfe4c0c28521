package handoff_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
)

// Registering handlers or middleware after the first delivery panics, so that it
// cannot be a data race.
func TestRegisteredAfterServing(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		register func(*handoff.Router)
		says     string
	}{
		"Handle": {func(r *handoff.Router) { handoff.Handle(r, func(context.Context, note) error { return nil }) }, "router_mistakes_test.go"},
		"Raw":    {func(r *handoff.Router) { r.Raw("note", nil) }, "Raw at "},
		"Use":    {func(r *handoff.Router) { r.Use(func(h handoff.Handler) handoff.Handler { return h }) }, "Router.Use after"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newFixture(t, nil)
			assert.Status(t, b.send(t, typed("1", "x")), 404)
			defer func() { assert.ErrorContains(t, fmt.Errorf("%v", recover()), tc.says) }()
			tc.register(b.Router)
		})
	}
}

// A handler or middleware that can never work panics at registration.
func TestNothingToRun(t *testing.T) {
	t.Parallel()
	run := func(context.Context, note) error { return nil }
	for name, tc := range map[string]struct {
		register func(*handoff.Router)
		says     string
	}{
		"no router": {func(*handoff.Router) { handoff.Handle(nil, run) }, "the Router is nil; check the error of NewRouter"},
		"no router for Raw": {func(*handoff.Router) {
			(*handoff.Router)(nil).Raw("a", func(context.Context, *http.Request) error { return nil })
		}, "the Router is nil"},
		"middleware returns none": {func(r *handoff.Router) { r.Use(func(handoff.Handler) handoff.Handler { return nil }) }, "middleware 0 returned a nil Handler"},
		"no handler":              {func(r *handoff.Router) { handoff.Handle[note](r, nil) }, "the handler is nil"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newFixture(t, nil)
			defer func() { assert.ErrorContains(t, fmt.Errorf("%v", recover()), tc.says) }()
			tc.register(b.Router)
		})
	}
}

// An outcome is a word in JSON, as a value and as a key.
func TestOutcomeInJSON(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(map[handoff.Outcome]handoff.Outcome{handoff.Failed: handoff.UnknownKind})
	assert.NoError(t, err)
	assert.Equal(t, string(text), `{"failed":"unknown-kind"}`)
}
