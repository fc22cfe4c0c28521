package handoff

import (
	"context"
	"fmt"

	"github.com/brillconsulting/handoff/internal/fence"
)

// ShowKey returns the record that store keeps of keyed work, for tasks of this
// client's project. key is that of [Key] or IdempotencyKey. kind is the oldest
// name of the payload's type: the last of its Aliases, if it has any. ShowKey
// cannot find work enqueued with [Every], whose period is part of the key.
func (c *Client) ShowKey(ctx context.Context, store KeyStore, kind, key string) (KeyRecord, error) {
	work, err := c.work(kind, key)
	if err != nil {
		return KeyRecord{}, err
	}
	record, err := store.ShowKey(ctx, work.FenceKey())
	if err != nil {
		return KeyRecord{}, fmt.Errorf("handoff: show key of %s: %w", kind, err)
	}
	return record, nil
}

// FreeKey removes the record of keyed work from store, so that a task with the
// same key runs again. kind and key are those of [Client.ShowKey]. FreeKey returns
// [ErrKeyHeld] while the work may be running. The service may refuse the task's
// name for up to 24 h more (https://cloud.google.com/tasks/docs/quotas); an
// enqueue then returns [Receipt].Duplicate.
func (c *Client) FreeKey(ctx context.Context, store KeyStore, kind, key string) error {
	work, err := c.work(kind, key)
	if err != nil {
		return err
	}
	if err := store.FreeKey(ctx, work.FenceKey()); err != nil {
		return fmt.Errorf("handoff: free key of %s: %w", kind, err)
	}
	return nil
}

func (c *Client) work(kind, key string) (fence.Work, error) {
	if err := checkKind(kind); err != nil {
		return fence.Work{}, err
	}
	if key == "" {
		return fence.Work{}, fmt.Errorf("handoff: the key of %s is empty", kind)
	}
	return fence.Work{Project: c.config.Project, Kind: kind, Key: key}, nil
}
