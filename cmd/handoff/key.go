package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/fence"
	"github.com/brillconsulting/handoff/redisstore"
	"github.com/brillconsulting/handoff/steps"
)

type keyCmd struct {
	redisFlags
	outputFlags

	Project string `env:"GOOGLE_CLOUD_PROJECT" help:"The project of the tasks ($$${env}), which is part of a key." placeholder:"ID"`

	Show keyShow `cmd:"" help:"Show what the fence knows of a key."`
	Free keyFree `cmd:"" help:"Forget a key, so that its work may run again."`
}

// keyArg is the key of work, as handoff.Key or IdempotencyKey gave it.
type keyArg struct {
	Kind string `arg:"" help:"Kind of the payload; of a type with Aliases, the last of these."`
	Key  string `arg:"" help:"The key, as given to handoff.Key or returned by IdempotencyKey."`
}

// hash is the fence key of the work.
func (k keyArg) hash(project string) string {
	return fence.Work{Project: project, Kind: k.Kind, Key: k.Key}.FenceKey()
}

// store opens the fence for as long as do runs.
func (k *keyCmd) store(ctx context.Context, do func(handoff.KeyStore) error) error {
	if k.Project == "" {
		return usagef("no project: add --project ID, or set GOOGLE_CLOUD_PROJECT")
	}
	return k.open(ctx, func(rdb redis.UniversalClient) error {
		return do(redisstore.New(rdb, &redisstore.Options{Prefix: k.Prefix}))
	})
}

// keyJSON is what the fence knows of a key.
type keyJSON struct {
	Kind      string     `json:"kind"`
	Key       string     `json:"key"`
	Hash      string     `json:"hash"`
	State     string     `json:"state"`
	Attempt   int        `json:"attempt,omitempty"`
	Redrives  int        `json:"redrives,omitempty"`
	FirstAt   *time.Time `json:"first_at,omitempty"`
	HeldUntil *time.Time `json:"held_until,omitempty"`
	Letter    string     `json:"letter,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`

	Steps    []string        `json:"steps,omitempty"` // that finished
	Step     string          `json:"step,omitempty"`  // that runs and has a position
	Position json.RawMessage `json:"position,omitempty"`
}

type keyShow struct {
	keyArg

	Payload bool `help:"Show the position of the step that runs, which may hold part of the payload."`
}

// Help is shown by --help.
func (*keyShow) Help() string {
	return "States: absent (free: never run, or forgotten), running, idle (between attempts), ending (being buried), opened (snoozed, or retried by a copy), done, dead (held by a dead letter: redrive it, or delete it). " +
		"Keys of Every, which have a period in them, are not found by this."
}

// Run shows the key.
func (c *keyShow) Run(ctx context.Context, con *console, key *keyCmd) error {
	return key.store(ctx, func(store handoff.KeyStore) error {
		r, err := store.ShowKey(ctx, c.hash(key.Project))
		if err != nil {
			return err
		}
		now := time.Now()
		value := keyJSON{
			Kind: c.Kind, Key: c.Key, Hash: c.hash(key.Project), State: r.State, Attempt: r.Attempt, Redrives: r.Redrives,
			FirstAt: stamp(r.First), HeldUntil: stamp(r.Held), Letter: r.Letter, ExpiresAt: stamp(r.Expires),
		}
		value.progress(r.Memo, c.Payload)
		facts := [][]cell{
			fact("kind", c.Kind),
			fact("key", c.Key),
			fact("state", r.State),
			fact("steps done", strings.Join(value.Steps, ", ")),
			fact("step", value.Step),
			fact("position", value.shownPosition()),
			fact("hash", value.Hash),
			fact("letter", r.Letter),
			fact("first run", moment(r.First, now)),
			fact("held until", moment(r.Held, now)),
			fact("forgotten", moment(r.Expires, now)),
		}
		if r.Attempt > 0 {
			facts = append(facts, fact("attempts", r.Attempt))
		}
		return con.describe(key.outputFlags, value, facts...)
	})
}

// progress sets what the memo says of work in steps. The memo may be of another
// package than steps.
func (v *keyJSON) progress(memo []byte, payload bool) {
	p, err := steps.ParseProgress(memo)
	if err != nil {
		return
	}
	v.Steps, v.Step = p.Done, p.Step
	if payload {
		v.Position = p.Position
	}
}

// shownPosition returns the position for people.
func (v *keyJSON) shownPosition() string {
	if v.Step != "" && v.Position == nil {
		return "hidden: --payload shows it"
	}
	return string(v.Position)
}

type keyFree struct {
	keyArg
	yesFlag
}

// Help is shown by --help.
func (*keyFree) Help() string {
	return "What is done may then be done a second time, by a task of this key that still exists or is enqueued later. A key whose work may be running is not freed."
}

// Run frees the key.
func (c *keyFree) Run(ctx context.Context, con *console, key *keyCmd) error {
	if err := con.mayAsk(c.yesFlag); err != nil {
		return err
	}
	return key.store(ctx, func(store handoff.KeyStore) error {
		r, err := store.ShowKey(ctx, c.hash(key.Project))
		if err != nil {
			return err
		}
		if r.State == "absent" {
			con.sayf("the key is free; nothing was done")
			return nil
		}
		if err := con.confirm(ctx, c.yesFlag, "Forget the key %s of kind %s, which is %s, so that its work may run again?", c.Key, c.Kind, r.State); err != nil {
			return err
		}
		err = store.FreeKey(ctx, c.hash(key.Project))
		if errors.Is(err, handoff.ErrKeyHeld) {
			return errors.Join(err, errors.New("its work may be running: wait for it, or for its lease to end"))
		}
		return err
	})
}
