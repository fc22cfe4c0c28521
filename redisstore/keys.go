package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/brillconsulting/handoff"
)

var errEmptyKey = errors.New("the key is empty")

// ShowKey implements [handoff.KeyStore].
func (s *Store) ShowKey(ctx context.Context, key string) (handoff.KeyRecord, error) {
	response, err := s.runOnKey(ctx, key, &keyShowScript)
	if errors.Is(err, redis.Nil) {
		return handoff.KeyRecord{State: "absent"}, nil
	}
	var record handoff.KeyRecord
	if err == nil {
		record, err = parseKey(response, time.Now())
	}
	if err != nil {
		return handoff.KeyRecord{}, fmt.Errorf("redisstore: show key: %w", err)
	}
	return record, nil
}

var stateNames = map[string]string{"R": "running", "I": "idle", "E": "ending", "P": "ending", "O": "opened", "D": "dead"}

func parseKey(response any, now time.Time) (handoff.KeyRecord, error) {
	values, ok := response.([]any)
	if !ok {
		return handoff.KeyRecord{}, unexpected(response)
	}
	r := reply{values: values}
	record := handoff.KeyRecord{State: "done", Owner: r.text(), Expires: now.Add(time.Duration(r.number()) * time.Millisecond)}
	if len(r.values) > 0 {
		record.State = stateNames[r.text()]
		record.Redrives, record.Generation, record.Attempt = int(r.number()), int(r.number()), int(r.number())
		record.Token, record.First = r.number(), time.UnixMicro(r.number())
		if held := r.number(); held > 0 {
			record.Held = time.UnixMicro(held)
		}
		record.Memo = r.bytes()
		if note := r.text(); record.State == "dead" {
			record.Letter = note
		}
	}
	if !r.whole() || record.State == "" {
		return handoff.KeyRecord{}, unexpected(response)
	}
	return record, nil
}

// FreeKey implements [handoff.KeyStore].
func (s *Store) FreeKey(ctx context.Context, key string) error {
	response, err := s.runOnKey(ctx, key, &keyFreeScript)
	left, ok := response.(int64)
	switch {
	case err == nil && !ok:
		err = unexpected(response)
	case left > 0:
		err = fmt.Errorf("%w for %s", handoff.ErrKeyHeld, time.Duration(left)*time.Microsecond)
	}
	if err != nil {
		return fmt.Errorf("redisstore: free key: %w", err)
	}
	return nil
}

func (s *Store) runOnKey(ctx context.Context, key string, sc *script) (any, error) {
	if key == "" {
		return nil, errEmptyKey
	}
	if err := cmp.Or(s.err, ctx.Err()); err != nil {
		return nil, err
	}
	return s.runOn(ctx, key, sc)
}

// reply reads the values of an array from Redis.
type reply struct {
	values []any
	odd    bool // a value was missing or of the wrong type
}

// whole reports whether all values were read, and had the right types.
func (r *reply) whole() bool { return !r.odd && len(r.values) == 0 }

func (r *reply) text() string  { return next[string](r) }
func (r *reply) number() int64 { return next[int64](r) }

// bytes returns the next value as bytes, or nil if it is empty.
func (r *reply) bytes() []byte {
	if s := r.text(); s != "" {
		return []byte(s)
	}
	return nil
}

func next[T any](r *reply) (value T) {
	var ok bool
	if len(r.values) > 0 {
		value, ok = r.values[0].(T)
		r.values = r.values[1:]
	}
	r.odd = r.odd || !ok
	return value
}
